"""Sizes, durations, cpus and moments: what is read and refused, and that both ways agree."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan import units


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("0.0", 0),
        ("1B", 1),
        ("1K", 1024),
        ("1KiB", 1024),
        ("1KB", 1000),
        ("512M", 512 * 1024**2),
        ("4GiB", 4 * 1024**3),
        ("4 GiB", 4 * 1024**3),
        ("4gib", 4 * 1024**3),
        ("1GB", 10**9),
        ("1.5G", 3 * 1024**3 // 2),
        (".5M", 512 * 1024),
        ("2T", 2 * 1024**4),
        (" 1TB ", 10**12),
        ("1024P", 2**60),
    ],
)
def test_a_size_is_read_with_its_unit(text: str, size_bytes: int) -> None:
    assert units.parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["5", "1024", "0.5", "007"])
def test_a_bare_number_is_no_size_and_the_answer_says_to_add_a_unit(text: str) -> None:
    with pytest.raises(ValueError, match="add a unit"):
        units.parse_size(text)


@pytest.mark.parametrize(
    "text",
    ["", "M", "-1M", "1X", "1MM", "1e3M", "1,5G", "nanG", "infG", "٣G", "1_000M", "1M 2K", "0x1K"],
)
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 512M"):
        units.parse_size(text)


@pytest.mark.parametrize("text", ["1025P", "999999999999999999T", "1" * 18 + "P"])
def test_an_absurd_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="too many"):
        units.parse_size(text)


@given(st.integers(0, 2**60))
def test_a_size_written_and_read_again_differs_by_less_than_what_is_shown(size: int) -> None:
    again = units.parse_size(units.format_size(size))
    assert abs(again - size) <= size / 1000 + 1


@given(st.integers(0, 1023), st.sampled_from([1, 1024, 1024**2, 1024**3, 1024**4]))
def test_a_size_of_whole_units_survives_exactly(count: int, unit: int) -> None:
    assert units.parse_size(units.format_size(count * unit)) == count * unit


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90s", 90),
        ("10m", 600),
        ("2h", 7200),
        ("1d", 86_400),
        ("1h30m", 5400),
        ("1d2h3m4s", 93_784),
        ("1:30:00", 5400),
        ("100:00:01", 360_001),
        ("500ms", 0.5),
        ("1s500ms", 1.5),
        ("0.4s", 0.4),
        ("1.5h", 5400),
    ],
)
def test_a_duration_is_read_with_its_units(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["5", "90", "1.5"])
def test_a_bare_number_is_no_duration_and_the_answer_says_to_add_a_unit(text: str) -> None:
    with pytest.raises(ValueError, match="add a unit"):
        units.parse_duration(text)


@pytest.mark.parametrize(
    "text",
    ["", "s", "-5s", "5x", "30m1h", "1h1h", "1:30", "1:60:00", "1:2:3", "1h 30m", "nan", "1e3s"],
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"1h30m or 1:30:00"):
        units.parse_duration(text)


@pytest.mark.parametrize("text", ["36501d", "999999:00:00", "999999999999999999h"])
def test_an_absurd_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="century"):
        units.parse_duration(text)


@given(st.integers(0, 100 * 365 * 86_400 * 1000))
def test_a_duration_in_milliseconds_survives_exactly(milliseconds: int) -> None:
    written = units.format_duration(milliseconds / 1000)
    assert units.parse_duration(written) == pytest.approx(milliseconds / 1000, abs=1e-6)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.4, "0.4s"), (60, "1m"), (90, "1m30s"), (5400, "1h30m"), (86_400, "1d")],
)
def test_a_duration_is_written_without_empty_parts(seconds: float, text: str) -> None:
    assert units.format_duration(seconds) == text


def test_a_negative_duration_is_not_written() -> None:
    with pytest.raises(ValueError, match="no duration"):
        units.format_duration(-1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0.9, "0s"),
        (45, "45s"),
        (60, "1m"),
        (200, "3m20s"),
        (3600, "1h"),
        (3659, "1h"),
        (187_200, "2d4h"),
        (86_401, "1d"),
    ],
)
def test_an_age_has_at_most_two_units(seconds: float, text: str) -> None:
    assert units.format_age(seconds) == text


@pytest.mark.parametrize(
    ("text", "milli"), [("1", 1000), ("0.5", 500), ("2.125", 2125), (".25", 250), ("0.001", 1)]
)
def test_cpus_are_read_in_thousandths(text: str, milli: int) -> None:
    assert units.parse_cpus(text) == milli


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0", "0 cpus"),
        ("0.000", "0 cpus"),
        ("-1", "no number"),
        ("two", "no number"),
        ("", "no number"),
        ("1.0001", "thousandths"),
        ("0.0004", "thousandths"),
        ("1e3", "no number"),
        ("1000001", "million"),
        ("nan", "no number"),
    ],
)
def test_what_is_no_number_of_cpus_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        units.parse_cpus(text)


@given(st.integers(1, 1_000_000_000))
def test_cpus_survive_exactly(milli: int) -> None:
    assert units.parse_cpus(units.format_cpus(milli)) == milli


@pytest.mark.parametrize(("text", "milli"), [("none", 0), ("0", 0), ("8", 8000), ("0.5", 500)])
def test_a_limit_of_cpus_may_be_none(text: str, milli: int) -> None:
    assert units.parse_cpus_limit(text) == milli


@given(st.text(alphabet="0123456789.:KMGTPiBdhms -e"))
@pytest.mark.parametrize("parse", [units.parse_size, units.parse_duration, units.parse_cpus])
def test_any_text_is_read_or_refused_with_a_sentence(
    parse: Callable[[str], float], text: str
) -> None:
    sentence = ""
    try:
        value = parse(text)
    except ValueError as error:
        value, sentence = 0, str(error)
    assert value >= 0
    assert not sentence or len(sentence) > 20


# 2026-11-20 14:02:03 UTC.
NOW = 1_795_183_323


@pytest.fixture
def two_hours_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "EAST-2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("two_hours_east")
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-20 16:02:03", NOW),
        ("2026-11-20T16:02:03", NOW),
        ("2026-11-20 16:02:03.25", NOW + 0.25),
        ("2026-11-20 16:02", NOW - 3),
        ("2026-11-20", NOW - 16 * 3600 - 123),
        ("2026-11-20T14:02:03Z", NOW),
        ("2026-11-20 14:02:03 +00:00", NOW),
        ("2026-11-20T09:02:03-0500", NOW),
        ("16:02", NOW - 3),
        ("16:02:03", NOW),
        ("16:02:04", NOW + 1 - 86_400),
        ("23:30", NOW - 123 - 16 * 3600 - 1800),  # The evening before.
        ("1795183323", NOW),
        ("1795183323.5", NOW + 0.5),
        ("1h ago", NOW - 3600),
        ("1h30m ago", NOW - 5400),
        ("-90s", NOW - 90),
        ("now", NOW),
        ("0 ago", NOW),
    ],
)
def test_a_moment_is_read_in_local_time_unless_it_names_a_zone(text: str, seconds: float) -> None:
    assert units.parse_moment(text, NOW) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "5",
        "20261120",
        "1795183323000",
        "2026-13-20",
        "2026-11-20 25:00",
        "24:00",
        "1h",
        "-",
        "-1",
        "5 ago",
        "ago",
        "2026-11-20 14:02 tomorrow",
        "0000-01-01",
        "0001-01-01",
    ],
)
def test_what_is_no_moment_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no time|is no duration|add a unit"):
        units.parse_moment(text, NOW)


@given(st.text(alphabet="0123456789-:. TZhmsago+", max_size=25))
def test_any_text_is_a_moment_or_refused_with_a_sentence(text: str) -> None:
    sentence = "a sentence of some length"
    try:
        units.parse_moment(text, NOW)
    except ValueError as error:
        sentence = str(error)
    assert len(sentence) > 20


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("now", NOW),
        ("now+1h", NOW + 3600),
        ("now + 90s", NOW + 90),
        ("+1h30m", NOW + 5400),
        ("2h", NOW + 7200),
        ("1:30:00", NOW + 5400),
        ("0", NOW),
        (f"{NOW + 5:.0f}", NOW + 5),
        ("2100-01-01T00:00:00Z", 4_102_444_800.0),
        ("2100-01-01T01:00+01:00", 4_102_444_800.0),
    ],
)
def test_a_time_to_come_is_read(text: str, seconds: float) -> None:
    assert units.parse_time_to_come(text, NOW) == pytest.approx(seconds, abs=1)


def test_a_time_of_day_to_come_is_the_next_one() -> None:
    now = datetime.fromisoformat("2026-11-20T14:02:03").timestamp()

    def parse(text: str) -> str:
        moment = datetime.fromtimestamp(units.parse_time_to_come(text, now)).astimezone()
        return moment.strftime("%Y-%m-%d %H:%M:%S")

    assert parse("14:03") == "2026-11-20 14:03:00"
    assert parse("14:02") == "2026-11-21 14:02:00"
    assert parse("14:02:03") == "2026-11-21 14:02:03"
    assert parse("23:59:59") == "2026-11-20 23:59:59"
    assert parse("00:00") == "2026-11-21 00:00:00"
    assert parse("2026-12-01") == "2026-12-01 00:00:00"
    assert parse("2026-12-01T12:00") == parse("2026-12-01 12:00") == "2026-12-01 12:00:00"


@pytest.mark.parametrize(
    "text",
    ["", "tomorrow", "5", "1h ago", "-1h", "now+", "now+5", "now-1h", "24:00", "2026-13-01", "1x"],
)
def test_what_is_no_time_to_come_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no time|is no duration|add a unit"):
        units.parse_time_to_come(text, NOW)


@given(st.text(alphabet="0123456789-:. TZhmsnow+", max_size=25))
def test_any_text_is_a_time_to_come_or_refused_with_a_sentence(text: str) -> None:
    sentence = "a sentence of some length"
    try:
        units.parse_time_to_come(text, NOW)
    except ValueError as error:
        sentence = str(error)
    assert len(sentence) > 20
