"""Sentences that a method is told: of the data, as numbers, and asked for when it acts.

Data have them as a LeRobotDataset has: the info "task" is the number of each step's sentence, negative where there is
none, and the attribute "tasks" lists the sentences. Paraphrases are sentences of their own.
"""

import hashlib
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Dataset, Spec
from reverie.data.tasks import listed, text_rows, texts
from reverie.data.windows import Windows
from reverie.errors import DataError, ReverieError, ReverieWarning
from reverie.paths import imported
from reverie.wishes import Wish

SENTENCES = "sentences"
"""Of a specification's `kept`: the K sentences as bytes, uint8 `[K, L]`, and their `encodings`, `[K + 1, d]`, of which
the last is 0 and says nothing. Of a batch: int32 `[B]`, which of them each window is told."""
WORDS = "words"


class SentenceEncoder(Protocol):
    """What turns sentences into vectors, such as a model of the package sentence-transformers."""

    def encode(self, sentences: Any) -> Any:
        """`[n, d]` of a list of n sentences."""


@dataclass(frozen=True)
class Words:
    """Counts of words, and of pairs of neighbours among them, at places that are hashes: of length 1, `[n, dim]`.

    Case and punctuation do not count. Words that no sentence of the training has are left out, with a warning; a
    sentence without any other raises ReverieError.
    """

    known: Sequence[str]
    """The sentences of the training."""
    dim: int = 512

    def encode(self, sentences: Sequence[str]) -> np.ndarray:
        vocabulary = {word for sentence in self.known for word in words(sentence)}
        return np.stack([self._counts(sentence, vocabulary) for sentence in sentences])

    def _counts(self, sentence: str, vocabulary: set[str]) -> np.ndarray:
        kept = [word for word in words(sentence) if word in vocabulary]
        if unknown := [word for word in words(sentence) if word not in vocabulary]:
            listed = f"{', '.join(map(repr, unknown))} of {sentence!r}"
            if not kept:
                raise ReverieError(f"No sentence of the training has {listed}; {_told(self.known)}.")
            warnings.warn(f"No sentence of the training has {listed}, left out.", ReverieWarning, stacklevel=5)
        counts = np.zeros(self.dim, np.float32)
        for term in (*kept, *map(" ".join, pairwise(kept))):
            place, sign = _hashed(term)
            counts[place % self.dim] += sign
        return counts / max(float(np.linalg.norm(counts)), 1e-6)


def words(sentence: str) -> list[str]:
    """In lower case, without punctuation."""
    return re.findall(r"\w+", sentence.lower())


def _hashed(term: str) -> tuple[int, int]:
    """A number and a sign, the same on every machine."""
    number = int.from_bytes(hashlib.blake2b(term.encode(), digest_size=8).digest(), "big")
    return number >> 1, 1 - 2 * (number & 1)


def encoder_of(name: str, known: Sequence[str], dim: int) -> SentenceEncoder:
    """`"words"`, of `dim` numbers; or an instance of the class that `module:Class@argument` names, as
    "sentence_transformers:SentenceTransformer@all-MiniLM-L6-v2" does, for which the working directory counts. Raises
    ReverieError where nothing is there."""
    return Words(known, dim) if name == WORDS else _imported(name)


@lru_cache(maxsize=4)
def _imported(name: str) -> SentenceEncoder:
    place, _, argument = name.partition("@")
    module, _, made_by = place.partition(":")
    try:
        kind = imported(module, made_by)
    except (ImportError, ValueError, AttributeError) as error:
        raise ReverieError(
            f"The sentence encoder {name!r} is not there ({error}); give {WORDS!r}, or module:Class@argument of a "
            "module in the working directory or on the Python path."
        ) from error
    # A run's settings name it: nothing else may be called by loading a run of someone else's.
    if not (isinstance(kind, type) and callable(getattr(kind, "encode", None))):
        raise ReverieError(f"The sentence encoder {name!r} is no class with a method `encode`; give one that is.")
    return kind(*([argument] if argument else []))


def encoded(encoder: SentenceEncoder, sentences: Sequence[str]) -> np.ndarray:
    """float32 `[n, d]`. An empty sentence says nothing, and is 0. Raises ReverieError where the encoder gives another
    shape, or what is not finite."""
    made = np.array(encoder.encode(list(sentences)), np.float32)
    if made.ndim != 2 or len(made) != len(sentences) or not np.isfinite(made).all():
        raise ReverieError(
            f"The sentence encoder {type(encoder).__name__} gave an array of shape {list(made.shape)} for "
            f"{len(sentences)} sentences; it must give finite numbers [{len(sentences)}, d]."
        )
    made[[not words(sentence) for sentence in sentences]] = 0
    return made


def with_sentences(spec: Spec, data: Dataset, encoder: str, dim: int) -> Spec:
    """The specification that knows the data's sentences; unchanged where it knows some."""
    if SENTENCES in spec.kept:
        return spec
    known = sorted(set(sentences_of(data)))
    made = encoded(encoder_of(encoder, known, dim), known)
    kept = {"text": text_rows(known), "encodings": np.concatenate([made, np.zeros_like(made[:1])])}
    return replace(spec, kept=spec.kept | {SENTENCES: jax.tree.map(jnp.asarray, kept)})


def told(view: Windows, data: Dataset, spec: Spec) -> Windows:
    """The windows with the column `SENTENCES`: which sentence each is told, that of its current step.

    Raises DataError for a sentence that the specification does not know.
    """
    theirs, known = sentences_of(data), {each: number for number, each in enumerate(known_sentences(spec))}
    if unknown := [each for each in theirs if each not in known]:
        raise DataError(f"The run to go on from was not told {unknown[0]!r}; {_told(known)}.")
    place = np.array([*(known[each] for each in theirs), -1], np.int32)
    number = np.asarray(data.infos["task"])[np.asarray(view.starts)].astype(np.int64)
    return view.joined({}, {SENTENCES: jnp.asarray(place[np.maximum(number, -1)])})


def sentences_of(data: Dataset) -> list[str]:
    """By their numbers. Raises DataError where there are none, or a number has none."""
    return listed(data, "sentences")


def known_sentences(spec: Spec) -> list[str]:
    """Those of the data that it was fitted to, in the order of their encodings."""
    return texts(spec.kept[SENTENCES]["text"])


def sentence_wish(spec: Spec, encoder: str) -> Wish:
    """A sentence, to be asked for. By default the data's only one; where they have several, one must be given."""
    known, dim = known_sentences(spec), spec.kept[SENTENCES]["encodings"].shape[-1]

    def encode(sentences: Sequence[str]) -> np.ndarray:
        return encoded(encoder_of(encoder, known, dim), sentences)

    default = known[0] if len(known) == 1 else None
    return Wish(f"a sentence; {_told(known)}", shape=(dim,), default=default, encode=encode)


def _told(known: Iterable[str]) -> str:
    some = [repr(each) for each in known]
    return f"it was told {', '.join(some[:3])}{' and others' if len(some) > 3 else ''}"


__all__ = [
    "SENTENCES", "SentenceEncoder", "Words", "encoded", "encoder_of", "known_sentences", "sentence_wish",
    "sentences_of", "told", "with_sentences", "words",
]  # fmt: skip
