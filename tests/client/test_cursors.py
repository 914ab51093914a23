"""Streams that break anywhere and go on: nothing twice, nothing missing."""

from collections.abc import Iterator
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan.client.cursors import Ends, EventsCursor, LineJoiner, OutputCursor, WatchCursor
from titan.rpc.v1 import manager_pb2, types_pb2


def piece(
    data: bytes, offset: int = 0, attempt: int = 1, *, err: bool = False
) -> manager_pb2.StreamOutputResponse:
    stream = manager_pb2.STDERR if err else manager_pb2.STDOUT
    return manager_pb2.StreamOutputResponse(
        stream=stream, offset=offset, data=data, attempt=attempt
    )


def test_a_watch_goes_on_after_the_last_lsn() -> None:
    cursor = WatchCursor([2, 1, 2])
    assert cursor.request() == manager_pb2.WatchJobsRequest(job_ids=[1, 2], after_lsn=0)
    job = manager_pb2.Job(job_id=1)
    assert cursor.take(manager_pb2.WatchJobsResponse(jobs=[job], lsn=7)) == [job]
    cursor.take(manager_pb2.WatchJobsResponse(lsn=5))
    assert cursor.request().after_lsn == 7


def test_a_job_ends_once_and_only_if_it_was_asked_for() -> None:
    ends = Ends([1, 2])
    done = manager_pb2.Job(job_id=1, state=types_pb2.FAILED)
    other = manager_pb2.Job(job_id=3, state=types_pb2.COMPLETED)
    running = manager_pb2.Job(job_id=2, state=types_pb2.RUNNING)
    assert ends.take([done, other, running]) == [done]
    assert ends.take([done]) == []
    assert ends.open_ids == {2}


def test_output_goes_on_behind_the_last_byte_of_each_stream() -> None:
    cursor = OutputCursor(42, 7, follow=True)
    assert cursor.request().attempt == 0
    cursor.take(piece(b"hello"))
    cursor.take(piece(b"oh", err=True))
    request = cursor.request()
    assert (request.attempt, request.stdout_offset, request.stderr_offset) == (1, 5, 2)


def test_what_comes_twice_is_passed_over() -> None:
    cursor = OutputCursor(42, 0)
    cursor.take(piece(b"hello"))
    assert cursor.take(piece(b"hello")) is None
    chunk = cursor.take(piece(b"lo world", offset=3))
    assert chunk is not None
    assert (chunk.offset, chunk.data) == (5, b" world")


def hole(size: int, offset: int) -> manager_pb2.StreamOutputResponse:
    return manager_pb2.StreamOutputResponse(
        stream=manager_pb2.STDOUT, offset=offset, hole_bytes=size, attempt=1
    )


def test_what_was_left_out_is_told_once_and_gone_on_behind() -> None:
    cursor = OutputCursor(42, 0)
    cursor.take(piece(b"head"))
    chunk = cursor.take(hole(100, offset=4))
    assert chunk is not None
    assert (chunk.offset, chunk.data, chunk.hole_bytes) == (4, b"", 100)
    assert cursor.request().stdout_offset == 104
    assert cursor.take(hole(100, offset=4)) is None
    tail = cursor.take(piece(b"tail", offset=104))
    assert tail is not None
    assert (tail.offset, tail.data, tail.hole_bytes) == (104, b"tail", 0)


def test_of_what_was_left_out_meanwhile_only_what_was_not_seen_is_told() -> None:
    cursor = OutputCursor(42, 0)
    cursor.take(piece(b"seen before"))
    chunk = cursor.take(hole(100, offset=5))
    assert chunk is not None
    assert (chunk.offset, chunk.hole_bytes) == (11, 94)
    assert repr(chunk).endswith("offset=11, data=b'', hole_bytes=94)")


def test_a_hole_in_the_output_is_passed_over() -> None:
    cursor = OutputCursor(42, 0)
    cursor.take(piece(b"a"))
    chunk = cursor.take(piece(b"z", offset=1000))
    assert chunk is not None
    assert chunk.offset == 1000


def test_a_later_attempt_begins_anew_and_an_earlier_one_is_over() -> None:
    cursor = OutputCursor(42, 0, follow=True)
    cursor.take(piece(b"first"))
    chunk = cursor.take(piece(b"2nd", attempt=2))
    assert chunk is not None
    assert (chunk.attempt, chunk.offset) == (2, 0)
    assert cursor.take(piece(b"late", attempt=1)) is None
    assert cursor.request().stdout_offset == 3


def test_a_stream_that_was_resumed_looks_once_for_later_attempts() -> None:
    cursor = OutputCursor(42, 0, follow=True)
    cursor.request()
    cursor.take(piece(b"hello"))
    # It breaks, is resumed within the attempt and ends with that.
    assert cursor.request().attempt == 1
    assert not cursor.is_finished()
    assert (cursor.request().attempt, cursor.request().stdout_offset) == (0, 0)
    assert cursor.take(piece(b"hello")) is None
    assert cursor.is_finished()


def test_a_stream_that_never_broke_is_finished_when_it_ends() -> None:
    cursor = OutputCursor(42, 0, follow=True)
    cursor.request()
    cursor.take(piece(b"hello"))
    assert cursor.is_finished()


def test_an_attempt_that_was_asked_for_is_followed_no_further() -> None:
    cursor = OutputCursor(42, 0, attempt=1, follow=True)
    cursor.take(piece(b"a"))
    assert not cursor.is_over(piece(b"a"))
    assert cursor.is_over(piece(b"b", attempt=2))
    assert cursor.take(piece(b"b", attempt=2)) is None
    assert cursor.request().attempt == 1
    assert cursor.is_finished()


def test_the_tail_is_asked_for_only_while_nothing_was_seen() -> None:
    cursor = OutputCursor(42, 0, tail_lines=5, streams=["stderr"])
    assert cursor.request().tail_lines == 5
    assert list(cursor.request().streams) == [manager_pb2.STDERR]
    cursor.take(piece(b"x", offset=100, err=True))
    assert cursor.request().tail_lines == 0
    assert cursor.request().stderr_offset == 101


@given(st.binary(max_size=40), st.lists(st.integers(0, 40)), st.data())
def test_output_cut_anywhere_arrives_whole_and_once(
    output: bytes, breaks: list[int], data: st.DataObject
) -> None:
    cursor = OutputCursor(1, 0)
    seen = b""
    for place in [*sorted(breaks), len(output)]:
        # The server may begin a little earlier than it was asked to.
        start = max(0, cursor.request().stdout_offset - data.draw(st.integers(0, 5)))
        if place > start:
            chunk = cursor.take(piece(output[start:place], offset=start))
            seen += chunk.data if chunk else b""
    assert seen == output


@given(st.binary(max_size=60), st.lists(st.integers(0, 60)))
def test_lines_are_whole_and_prefixed_however_they_are_cut(output: bytes, cuts: list[int]) -> None:
    joiner = LineJoiner(b"1.2| ")
    places = [0, *sorted(min(cut, len(output)) for cut in cuts), len(output)]
    joined = b""
    for start, stop in pairwise(places):
        part = joiner.take(output[start:stop])
        assert not part or part.endswith(b"\n")
        joined += part
    joined += joiner.finish()
    lines = output.split(b"\n")
    if not lines[-1]:
        lines.pop()
    assert joined == b"".join(b"1.2| " + line + b"\n" for line in lines)


def test_a_line_without_an_end_is_let_go_in_pieces() -> None:
    joiner = LineJoiner(b"> ")
    assert joiner.take(b"x" * LineJoiner.LINE_BYTES_MAX) != b""
    assert joiner.finish() == b""


@pytest.mark.parametrize("broken", list(product([False, True], repeat=6)))
def test_events_of_a_record_that_was_not_told_whole_come_once(broken: tuple[bool, ...]) -> None:
    lsns = (3, 5, 5, 5, 8, 8)
    breaks = iter(broken)
    cursor = EventsCursor(manager_pb2.GetEventsRequest(limit=9))
    seen: list[int] = []

    def is_whole(number: int) -> bool:
        return lsns[number] not in lsns[number + 1 :]

    def stream(after_lsn: int) -> Iterator[manager_pb2.GetEventsResponse]:
        """An event to an answer, from the first after the record that was asked for."""
        for number, lsn in enumerate(lsns):
            if lsn > after_lsn:
                event = manager_pb2.Event(lsn=lsn, time_us=number)
                yield manager_pb2.GetEventsResponse(
                    lsn=lsn if is_whole(number) else lsn - 1, events=[event]
                )

    while len(seen) < len(lsns):
        request = cursor.request()
        assert request.limit == 9
        for response in stream(request.after_lsn):
            seen += [event.time_us for event in cursor.take(response).events]
            if next(breaks, False):
                break
    assert seen == list(range(len(lsns)))
    assert cursor.request().after_lsn == 8
