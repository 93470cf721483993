"""Sentences: what of them counts, where the data have them, and how they are asked for."""

import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import Dataset, Spec, windows
from reverie.errors import DataError, ReverieError, ReverieWarning
from reverie.planning.sentences import (
    SENTENCES,
    Words,
    encoded,
    encoder_of,
    known_sentences,
    sentence_wish,
    told,
    with_sentences,
)
from reverie.wishes import resolve

LISTED = ["Put the red cup on the blue one.", "put the blue cup on the red one", "öffne die Tür"]
TASK = np.repeat([2, 0, 1, -1], 3)


def data(task=TASK, tasks=LISTED) -> Dataset:
    rows = np.arange(12.0)[:, None]
    infos, attributes = ({} if task is None else {"task": task}), ({} if tasks is None else {"tasks": tasks})
    return Dataset.from_arrays(rows, rows / 12, None, None, np.arange(12) % 3 == 2, infos=infos, attributes=attributes)


def encode(*sentences, known=LISTED):
    return Words(known, 64).encode(sentences)


def test_words_and_their_order_count_and_case_and_punctuation_do_not():
    one, again, other = encode(LISTED[0], "put THE red cup, on the blue one", LISTED[1])
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)  # the same words
    np.testing.assert_allclose(np.linalg.norm([one, other], axis=1), 1, rtol=1e-6)


def test_the_hash_is_the_same_on_every_machine():
    np.testing.assert_array_equal(np.flatnonzero(encode("cup")), [20])


def test_unknown_words_are_left_out_with_a_warning_and_alone_are_refused():
    with pytest.warns(ReverieWarning, match="No sentence of the training has 'please' of 'please put the red cup'"):
        (asked,) = encode("please put the red cup")
    np.testing.assert_array_equal(asked, encode("put the red cup")[0])
    with pytest.raises(ReverieError, match=r"No sentence of the training has 'go' of 'go'; it was told 'Put the red"):
        encode("go")


def test_an_empty_sentence_says_nothing():
    assert not encoded(Words(LISTED, 8), ["", "?!"]).any()


def test_a_specification_keeps_the_sentences_through_a_file(tmp_path):
    spec = with_sentences(Spec.fit(data()), data(), "words", 64)
    spec.save(tmp_path / "spec")
    loaded = Spec.load(tmp_path / "spec")
    assert known_sentences(loaded) == sorted(LISTED)
    encodings = loaded.kept[SENTENCES]["encodings"]
    np.testing.assert_allclose(encodings[:3], encode(*sorted(LISTED)))
    assert not encodings[3].any()


def test_a_window_is_told_its_current_step_s_sentence_by_whatever_number_the_data_give_it():
    spec = with_sentences(Spec.fit(data()), data(), "words", 64)
    other = data(task=np.repeat([1, -1, 0, 1], 3), tasks=[LISTED[2], LISTED[0]])
    for each in (data(), other):
        batch = told(windows(each, spec, 2, pad="edge", columns=("actions",)), each, spec).take(np.arange(12))
        sentences = [*known_sentences(spec), None]
        said = [sentences[number] for number in batch[SENTENCES]]
        listed = [*each.attributes["tasks"], None]
        assert said == [listed[number] for number in each.infos["task"]]
    with pytest.raises(DataError, match="The run to go on from was not told 'go'; it was told 'Put the red"):
        told(windows(other, spec, 2, pad="edge", columns=("actions",)), data(tasks=["go"], task=0 * TASK), spec)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"tasks": None}, "'this data set' has no sentences; give the info 'task'"),
        ({"task": None}, "'this data set' has no sentences"),
        ({"task": TASK + 0.5}, "The info 'task' has shape .12. and type float"),
        ({"task": TASK + 1}, "The info 'task' is 3 where 'tasks' lists 3 sentences, from 0 on"),
    ],
)
def test_data_without_sentences_are_refused(changed, message):
    with pytest.raises(DataError, match=message):
        with_sentences(Spec.fit(data()), data(**changed), "words", 8)


def test_a_sentence_is_asked_for_in_words():
    spec = with_sentences(Spec.fit(data()), data(), "words", 64)
    declared = {"sentence": sentence_wish(spec, "words")}
    one = resolve("it", declared, {"sentence": LISTED[0]}, 2)["sentence"]
    np.testing.assert_array_equal(one, encode(LISTED[0], LISTED[0]))
    each = resolve("it", declared, {"sentence": LISTED[:2]}, 2)["sentence"]
    np.testing.assert_array_equal(each, encode(*LISTED[:2]))
    for wrong, message in (
        ({}, "it must be told sentence .a sentence; it was told 'Put"),
        ({"sentence": 3.0}, "sentence = 3.0 is float, and must be a text"),
        ({"sentence": LISTED}, "sentence has shape .3, 64."),
    ):
        with pytest.raises(ReverieError, match=message):
            resolve("it", declared, wrong, 2)


def test_where_there_is_one_sentence_it_need_not_be_said():
    alone = data(task=0 * TASK, tasks=["go"])
    wish = sentence_wish(with_sentences(Spec.fit(alone), alone, "words", 8), "words")
    np.testing.assert_array_equal(resolve("it", {"s": wish}, {}, 3)["s"], np.tile(encode_one("go"), (3, 1)))


def encode_one(sentence):
    return Words([sentence], 8).encode([sentence])


class Lengths:
    """An encoder of one's own: a sentence's length, `scale` times."""

    def __init__(self, scale="1"):
        self.scale = float(scale)

    def encode(self, sentences):
        return [[self.scale * len(each)] for each in sentences]


def test_another_encoder_is_named_by_where_it_is(monkeypatch):
    monkeypatch.setitem(sys.modules, "lengths", SimpleNamespace(Lengths=Lengths))
    spec = with_sentences(Spec.fit(data()), data(), "lengths:Lengths@2", 64)
    np.testing.assert_array_equal(spec.kept[SENTENCES]["encodings"][:, 0], [*(2 * len(s) for s in sorted(LISTED)), 0])
    wish = sentence_wish(spec, "lengths:Lengths@2")
    np.testing.assert_array_equal(resolve("it", {"s": wish}, {"s": "four"}, 1)["s"], [[8]])
    assert encoder_of("lengths:Lengths", LISTED, 64).scale == 1
    with pytest.raises(ReverieError, match=r"encoder 'nowhere:Model' is not there .*give 'words', or module:Class"):
        encoder_of("nowhere:Model", LISTED, 64)
    for harmful in ("os:system@true", "subprocess:Popen@true"):  # nothing that a run's settings name is called so
        with pytest.raises(ReverieError, match="is no class with a method `encode`"):
            encoder_of(harmful, LISTED, 64)
    with pytest.raises(ReverieError, match=r"gave an array of shape \[2\] for 3 sentences; .* numbers \[3, d\]"):
        encoded(WRONG, LISTED)


WRONG = SimpleNamespace(encode=lambda sentences: [1.0, 2.0])


def test_an_encoder_of_one_s_own_is_found_in_the_working_directory(monkeypatch, tmp_path):
    (tmp_path / "own_lengths.py").write_text("class Lengths:\n    def encode(self, sentences): return [[1.0]]\n")
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    monkeypatch.chdir(tmp_path)
    assert encoder_of("own_lengths:Lengths", LISTED, 64).encode(["open"]) == [[1.0]]
    del sys.modules["own_lengths"]


def test_the_encodings_are_arrays_that_a_compiled_function_may_read():
    spec = with_sentences(Spec.fit(data()), data(), "words", 64)
    total = jax.jit(lambda spec: jnp.abs(spec.kept[SENTENCES]["encodings"]).sum())(spec)
    assert float(total) > 3
