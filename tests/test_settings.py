"""Fields of a configuration: what is refused, and in which words."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from reverie.errors import ReverieError
from reverie.settings import (
    Acting,
    Choices,
    Count,
    Fraction,
    Natural,
    NonNegative,
    Settings,
    acting_fields,
    annotations,
    literal,
)


@dataclass(frozen=True)
class Config(Settings):
    count: Count = 1
    share: Acting[Fraction] = 0.5
    weight: NonNegative = 1.0
    free: float = 0.0
    flag: bool = False
    way: Literal["one", "other"] = "one"
    perhaps: Acting[Count | None] = None
    named: Annotated[str, Choices(("red", "blue"))] = "red"


@dataclass(frozen=True)
class Wider(Config):
    """A field of the class below is declared anew, with another limit."""

    count: Natural = 0
    depth: Acting[int] = 3


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"share": 0.0},
        {"share": 1},
        {"weight": 0},
        {"weight": math.inf},
        {"free": -1e9},
        {"way": "other"},
        {"perhaps": None},
        {"perhaps": 1},
        {"named": "blue"},
    ],
)
def test_values_within_their_limits_are_taken(fields):
    for name, value in fields.items():
        assert getattr(Config(**fields), name) == value


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"count": 0}, "count = 0, but it must be a whole number of at least 1"),
        ({"count": 2.0}, "count = 2.0, but it must be a whole number of at least 1"),
        ({"count": True}, "count = True, but it must be a whole number of at least 1"),
        ({"count": "3"}, "count = '3', but it must be a whole number of at least 1"),
        ({"count": None}, "count = None, but it must be a whole number of at least 1"),
        ({"share": 1.5}, "share = 1.5, but it must be a number from 0 to 1"),
        ({"share": -0.1}, "share = -0.1, but it must be a number from 0 to 1"),
        ({"share": math.nan}, "share = nan, but it must be a number from 0 to 1"),
        ({"weight": -1}, "weight = -1, but it must be a number of at least 0"),
        ({"weight": "2"}, "weight = '2', but it must be a number of at least 0"),
        ({"weight": True}, "weight = True, but it must be a number of at least 0"),
        ({"free": "false"}, "free = 'false', but it must be a number"),
        ({"flag": "false"}, "flag = 'false', but it must be True or False"),
        ({"flag": 1}, "flag = 1, but it must be True or False"),
        ({"way": "neither"}, "way 'neither' is unknown; choose one of one, other"),
        ({"way": 1}, "way 1 is unknown; choose one of one, other"),
        ({"count": 0, "share": 2}, "count = 0"),
        ({"perhaps": 0}, "perhaps = 0, but it must be a whole number of at least 1"),
        ({"named": "green"}, "named 'green' is unknown; choose one of red, blue"),
    ],
)
def test_values_outside_them_are_quoted_with_what_would_do(fields, sentence):
    with pytest.raises(ReverieError) as caught:
        Config(**fields)
    assert str(caught.value).startswith(sentence)


def test_a_class_takes_over_the_fields_of_the_one_below_and_may_change_their_limits():
    assert Wider().count == 0
    with pytest.raises(ReverieError, match="count = -1, but it must be a whole number of at least 0"):
        Wider(count=-1)
    with pytest.raises(ReverieError, match=r"share = 1\.5"):
        Wider(share=1.5)


def test_the_fields_that_matter_in_acting():
    assert acting_fields(Config()) == acting_fields(Config) == ("share", "perhaps")
    assert acting_fields(Wider()) == ("share", "perhaps", "depth")


def test_what_the_annotations_say():
    said = {each.name: each for each in annotations(Config)}
    assert said["count"].limit == (1, math.inf) and not said["count"].optional
    assert said["perhaps"].optional and said["perhaps"].kind is int
    assert said["way"].choices == ("one", "other") and said["named"].choices == ("red", "blue")
    assert said["free"].limit is None and not said["free"].acting


def test_a_new_default_keeps_the_limit_the_choices_and_the_mark_of_acting():
    @dataclass(frozen=True)
    class Base(Settings):
        count: Acting[Count] = 1
        way: Literal["one", "other"] = "one"

    @dataclass(frozen=True)
    class Derived(Base):
        count: int = 3
        way: str = "other"

    assert acting_fields(Derived) == ("count",)
    assert Derived().count == 3
    with pytest.raises(ReverieError, match="count = 0, but it must be a whole number of at least 1"):
        Derived(count=0)
    with pytest.raises(ReverieError, match="way 'neither' is unknown"):
        Derived(way="neither")


def test_a_new_default_without_its_type_is_refused_when_the_class_is_made():
    @dataclass(frozen=True)
    class Base(Settings):
        count: Count = 1

    with pytest.raises(ReverieError, match=r"Derived\.count = 3 would change nothing, as count is an inherited field"):

        class Derived(Base):
            count = 3


def test_widths_are_several():
    @dataclass(frozen=True)
    class Wide(Settings):
        hidden: tuple[int, ...] = (8,)

    assert Wide(hidden=(3, 4)).hidden == (3, 4)
    with pytest.raises(ReverieError, match=r"hidden = 64, but it must be several, such as \(64,\)"):
        Wide(hidden=64)


@pytest.mark.parametrize(
    "text, value",
    [("true", True), ("False", False), ("NONE", None), ("8", 8), ("1e-3", 1e-3), ("[1,2]", [1, 2]), ("ddim", "ddim")],
)
def test_a_value_as_it_is_typed(text, value):
    assert literal(text) == value and type(literal(text)) is type(value)
