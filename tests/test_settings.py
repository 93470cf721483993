"""Fields of a configuration: what is refused, and in which words."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from reverie.errors import ReverieError
from reverie.settings import check_fields


@dataclass(frozen=True)
class Config:
    limits: ClassVar = {"count": 1, "share": (0.0, 1.0), "weight": 0.0}

    count: int = 1
    share: float = 0.5
    weight: float = 1.0
    free: float = 0.0
    way: Literal["one", "other"] = "one"

    def __post_init__(self):
        check_fields(self, self.limits)


@pytest.mark.parametrize(
    "fields",
    [{}, {"share": 0.0}, {"share": 1}, {"weight": 0}, {"weight": math.inf}, {"free": -1e9}, {"way": "other"}],
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
        ({"way": "neither"}, "way 'neither' is unknown; choose one of one, other"),
        ({"way": 1}, "way 1 is unknown; choose one of one, other"),
        ({"count": 0, "share": 2}, "count = 0"),
    ],
)
def test_values_outside_them_are_quoted_with_what_would_do(fields, sentence):
    with pytest.raises(ReverieError) as caught:
        Config(**fields)
    assert str(caught.value).startswith(sentence)
