"""File names that differ from task to task."""

from __future__ import annotations

import pytest

from tests.worker.builders import key
from titan.checks import check_pattern
from titan.patterns import expand


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (b"plain", b"plain"),
        (b"", b""),
        (b"%j/%i.%a", b"42/7.3"),
        (b"%n.out", b"a_b\xff.out"),
        (b"100%% of %%j", b"100% of %j"),
        (b"%%%j%%", b"%42%"),
    ],
)
def test_each_sign_stands_for_its_own_and_what_stands_there_is_not_looked_at_again(
    pattern: bytes, name: bytes
) -> None:
    check_pattern(pattern, "it")
    assert expand(pattern, key(42, 7, 3), "a/b\udcff") == name


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("..", b"out/__/x"),
        (".", b"out/_/x"),
        ("../..", b"out/.._../x"),
        ("/etc/passwd", b"out/_etc_passwd/x"),
        ("a..", b"out/a../x"),
    ],
)
def test_no_name_of_a_job_leads_into_another_directory(name: str, path: bytes) -> None:
    assert expand(b"out/%n/x", key(42, 7, 3), name) == path


def test_a_name_with_signs_in_it_stays_as_it_is() -> None:
    assert expand(b"%n-%i", key(1, 2), "%j%%") == b"%j%%-2"
