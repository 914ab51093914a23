"""Resource limits as people write them."""

from __future__ import annotations

import pytest

from titan.client.ulimits import format_ulimits, parse_ulimits, ulimits_of
from titan.errors import InvalidJob


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nofile=1024", ("nofile", 1024, 1024)),
        ("nofile=1024:4096", ("nofile", 1024, 4096)),
        ("core=0", ("core", 0, 0)),
        ("core=unlimited", ("core", -1, -1)),
        ("core=-1", ("core", -1, -1)),
        ("as=8G:unlimited", ("as", 8 << 30, -1)),
        ("cpu=1h:2h", ("cpu", 3600, 7200)),
        ("rttime=1.5s", ("rttime", 1_500_000, 1_500_000)),
    ],
)
def test_a_limit_is_read_and_written_the_same(text: str, expected: tuple[str, int, int]) -> None:
    (limit,) = ulimits_of(parse_ulimits([text]))
    assert limit == expected
    again = format_ulimits((limit,))
    assert ulimits_of(parse_ulimits(again)) == (limit,)


def test_the_last_of_a_name_counts_and_they_are_sorted() -> None:
    texts = ["nofile=1", "as=1G", "nofile=2"]
    assert [each[:2] for each in ulimits_of(parse_ulimits(texts))] == [
        ("as", 1 << 30),
        ("nofile", 2),
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nofile", "write it as NAME=SOFT"),
        ("=1", "write it as NAME=SOFT"),
        ("nofile=", "write it as NAME=SOFT"),
        ("files=1", "'files' is no resource limit; there are: as, core"),
        ("nofile=many", "'many' is no number"),
        ("nofile=-2", "'-2' is no number"),
        ("as=8", "add a unit"),
        ("cpu=8", "add a unit"),
        ("nofile=2:1", "soft limit above the hard one"),
        ("nofile=unlimited:1", "soft limit above the hard one"),
    ],
)
def test_what_is_no_limit_is_refused_with_what_is(text: str, why: str) -> None:
    with pytest.raises(InvalidJob, match=why):
        ulimits_of(parse_ulimits([text]))
