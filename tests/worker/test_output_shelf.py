"""What is removed next, compared with a list that is sorted each time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from titan.worker.output.shelf import Entry, Limits, OldestOf, Shelf

DAY = 86_400
NO_LIMIT = Limits(0, 0, 0)

entries = st.lists(
    st.builds(
        Entry,
        end_s=st.integers(0, 50),
        job_id=st.integers(0, 1 << 60),
        index=st.integers(0, 1 << 40),
        attempt=st.integers(1, 3),
        size_bytes=st.integers(0, 1 << 40),
        files=st.integers(1, 6),
    ),
    max_size=40,
    unique_by=lambda entry: entry.name,
)
limits = st.builds(
    Limits, st.sampled_from([0, 10]), st.sampled_from([0, 1, 1 << 41]), st.sampled_from([0, 1, 20])
)


def test_programs_that_clients_started_have_numbers_below_0() -> None:
    made = shelf(Limits(1, 0, 0), entry(5, -7))
    assert made.take_due(100, 1) == [(entry(5, -7), "--output-retain")]


def entry(end_s: int, job_id: int = 1, size_bytes: int = 100, files: int = 2) -> Entry:
    return Entry(end_s, job_id, 0, 1, size_bytes, files)


def shelf(limits: Limits, *entries: Entry) -> Shelf:
    made = Shelf(limits)
    for each in entries:
        made.add(each)
    return made


def taken(made: Shelf, now_s: float) -> list[tuple[int, str]]:
    return [(entry.end_s, option) for entry, option in made.take_due(now_s, 1_000)]


def test_without_limits_nothing_is_ever_due() -> None:
    made = shelf(NO_LIMIT, entry(0), entry(1, 2))
    assert taken(made, 1e12) == []
    assert made.next_due_s() is None
    assert not made.wants_look(1e12)


def test_what_is_older_than_the_limit_goes_and_the_next_is_waited_for() -> None:
    made = shelf(Limits(7 * DAY, 0, 0), entry(100), entry(200, 2), entry(300, 3))
    assert taken(made, 7 * DAY + 99) == []
    assert taken(made, 7 * DAY + 200) == [(100, "--output-retain"), (200, "--output-retain")]
    assert made.next_due_s() == 7 * DAY + 300


def test_of_too_much_the_oldest_go_until_it_is_no_more() -> None:
    made = shelf(Limits(0, 250, 0), entry(3, 1), entry(1, 2), entry(2, 3), entry(4, 4))
    assert taken(made, 10) == [(1, "--output-retain-bytes"), (2, "--output-retain-bytes")]
    assert (made.size_bytes, made.files, len(made)) == (200, 4, 2)


def test_of_too_many_files_the_oldest_go() -> None:
    made = shelf(Limits(0, 0, 4), entry(1, 1), entry(2, 2), entry(3, 3))
    assert taken(made, 10) == [(1, "--output-retain-files")]


def test_no_more_are_taken_at_once_than_asked_for() -> None:
    made = shelf(Limits(1, 0, 0), *(entry(end, end + 1) for end in range(5)))
    assert [each.end_s for each, _ in made.take_due(100, 2)] == [0, 1]
    assert len(made) == 3


def test_beyond_those_known_by_name_the_rest_is_counted_and_looked_for_when_it_is_due() -> None:
    oldest = OldestOf(known_max=3)
    for end in (9, 3, 7, 1, 5, 8, 2):
        oldest.add(entry(end, end))
    found = oldest.found()
    assert (len(found.oldest), found.is_all, found.size_bytes, found.files) == (3, False, 700, 14)
    made = Shelf(Limits(0, 0, 4), known_max=3)
    made.fill(found)
    # What ends later is younger than those that are not known.
    made.add(entry(20, 20))
    assert taken(made, 100) == [(end, "--output-retain-files") for end in (1, 2, 3)]
    assert made.files == 10
    assert made.wants_look(100)


def test_what_ends_beyond_the_room_for_names_is_only_counted() -> None:
    made = Shelf(Limits(50, 0, 0), known_max=2)
    for end in (1, 2, 3, 4):
        made.add(entry(end, end))
    assert (len(made), made.files) == (2, 8)
    assert [end for end, _ in taken(made, 52)] == [1, 2]
    assert made.wants_look(52)


def test_what_ended_during_the_look_counts_once_and_what_is_held_not_at_all() -> None:
    oldest = OldestOf()
    for each in (entry(1, 1), entry(2, 2), entry(3, 3)):
        oldest.add(each)
    made = Shelf(Limits(1, 0, 0))
    made.fill(oldest.found(), [entry(40, 2)], {(3, 0, 1)})
    assert (made.size_bytes, made.files) == (200, 4)
    assert [end for end, _ in taken(made, 100)] == [1, 40]


@given(entries, entries, limits, st.integers(1, 8), st.integers(0, 80))
def test_the_same_goes_as_from_a_sorted_list(
    there: list[Entry], later: list[Entry], limits: Limits, known_max: int, now_s: int
) -> None:
    """However few are known by name: with a look through the disk for each batch of them."""
    names = {each.name for each in there}
    later = [each for each in later if each.name not in names]
    expected = sorted([*there, *later])
    gone: list[Entry] = []
    while expected:
        oldest = expected[0]
        size_bytes = sum(each.size_bytes for each in expected)
        files = sum(each.files for each in expected)
        too_old = limits.seconds and oldest.end_s + limits.seconds <= now_s
        too_much = limits.size_bytes and size_bytes > limits.size_bytes
        too_many = limits.files and files > limits.files
        if not (too_old or too_much or too_many):
            break
        gone.append(expected.pop(0))
    made = Shelf(limits, known_max)
    disk = {each.name: each for each in there}

    def look() -> None:
        oldest = OldestOf(known_max)
        for each in disk.values():
            oldest.add(each)
        made.fill(oldest.found())

    look()
    for each in later:
        disk[each.name] = each
        made.add(each)
    removed: list[Entry] = []
    while True:
        due = [each for each, _ in made.take_due(now_s, 3)]
        for each in due:
            del disk[each.name]
        removed += due
        if not due:
            if not made.wants_look(now_s):
                break
            look()
    assert removed == gone
    assert sorted(disk.values()) == expected
    assert made.files == sum(each.files for each in expected)
    assert made.size_bytes == sum(each.size_bytes for each in expected)
