"""The shared suite of the Journal protocol: whatever holds for one of them holds for each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

import wal
from tests.manager.harness import DEADLINE_SECONDS, settle, until
from tests.manager.journals import BENCHES, SEGMENT_BYTES, Bench, Failures, make_bench
from titan.manager.journal import Journal


@pytest.fixture(params=BENCHES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    bench = make_bench(request.param, tmp_path, lambda: request.getfixturevalue("postgresql"))
    yield bench
    bench.let_go()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """In a loop of its own, and not for ever."""

    async def limited() -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await scenario()

    asyncio.run(limited())


def fail(error: BaseException) -> None:
    raise AssertionError(error)


def has_room(journal: Journal) -> bool:
    """Asks afresh: a type checker takes a property for a value that stays."""
    return journal.room


def durable_lsn(journal: Journal) -> int:
    """Asks afresh."""
    return journal.durable_lsn


class Waits:
    """Those that wait for records, and in which order they were let go."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.over: list[int] = []
        self.tasks: dict[int, asyncio.Task[None]] = {}

    async def begin(self, *lsns: int) -> None:
        """They wait when it returns."""
        for lsn in lsns:
            self.tasks[lsn] = asyncio.create_task(self._wait(lsn))
        await settle()

    async def cancel(self, *lsns: int) -> None:
        for lsn in lsns:
            self.tasks[lsn].cancel()
        await asyncio.wait([self.tasks[lsn] for lsn in lsns])

    async def _wait(self, lsn: int) -> None:
        await self._journal.wait_durable(lsn)
        assert self._journal.durable_lsn >= lsn
        self.over.append(lsn)


def test_records_are_numbered_from_one_and_kept_in_that_order(bench: Bench) -> None:
    async def scenario() -> None:
        journal = bench.open()
        assert journal.durable_lsn == 0
        journal.start(fail)
        written = [b"record %d" % number for number in range(1, 101)]
        assert [journal.append(each) for each in written] == list(range(1, 101))
        await journal.wait_durable(100)
        assert durable_lsn(journal) == 100
        assert bench.stored() == written
        bench.close()

    run(scenario)


def test_another_goes_on_where_the_one_before_ended(bench: Bench) -> None:
    async def scenario() -> None:
        journal = bench.open()
        journal.start(fail)
        journal.append(b"one")
        journal.append(b"two")
        # Nobody waited for them, and they are there all the same.
        bench.close()
        journal = bench.open()
        assert journal.durable_lsn == 2
        await journal.wait_durable(2)
        journal.start(fail)
        assert journal.append(b"three") == 3
        await journal.wait_durable(3)
        bench.close()
        assert bench.stored() == [b"one", b"two", b"three"]

    run(scenario)


def test_nothing_is_durable_before_it_is_stored(bench: Bench) -> None:
    async def scenario() -> None:
        journal = bench.open()
        journal.start(fail)
        journal.append(b"one")
        await journal.wait_durable(1)
        bench.hold()
        assert journal.append(b"two") == 2
        assert journal.append(b"three") == 3
        waits = Waits(journal)
        await waits.begin(1, 2, 3)
        assert waits.over == [1]
        assert journal.durable_lsn == 1
        assert bench.stored() == [b"one"]
        bench.release()
        await until(lambda: len(waits.over) == 3)
        assert waits.over == [1, 2, 3]
        assert bench.stored() == [b"one", b"two", b"three"]

    run(scenario)


def test_a_loop_that_does_not_turn_learns_of_nothing(bench: Bench) -> None:
    """What was decided with one durable LSN is written by the same."""

    async def scenario() -> None:
        journal = bench.open()
        journal.start(fail)
        journal.append(b"one")
        bench.block_until_stored(1)
        assert journal.durable_lsn == 0
        await journal.wait_durable(1)
        assert durable_lsn(journal) == 1

    run(scenario)


def test_before_the_start_nothing_is_stored(bench: Bench) -> None:
    async def scenario() -> None:
        journal = bench.open()
        assert journal.append(b"one") == 1
        waits = Waits(journal)
        await waits.begin(1)
        assert journal.durable_lsn == 0
        assert waits.over == []
        assert bench.stored() == []
        journal.start(fail)
        journal.append(b"two")
        await journal.wait_durable(2)
        assert waits.over == [1]
        assert bench.stored() == [b"one", b"two"]

    run(scenario)


def test_it_is_started_once(bench: Bench) -> None:
    async def scenario() -> None:
        journal = bench.open()
        journal.start(fail)
        with pytest.raises(RuntimeError):
            journal.start(fail)

    run(scenario)


def test_a_record_may_be_waited_for_before_it_is_appended(bench: Bench) -> None:
    async def scenario() -> None:
        journal = bench.open()
        journal.start(fail)
        waits = Waits(journal)
        await waits.begin(1, 2)
        journal.append(b"one")
        await until(lambda: waits.over)
        assert waits.over == [1]
        journal.append(b"two")
        await until(lambda: len(waits.over) == 2)
        assert waits.over == [1, 2]

    run(scenario)


def test_who_waits_for_a_record_does_not_wait_for_a_later_one(bench: Bench) -> None:
    """Not even if others came before him that do."""

    async def scenario() -> None:
        journal = bench.open()
        journal.start(fail)
        waits = Waits(journal)
        await waits.begin(3, 1, 2)
        journal.append(b"one")
        await until(lambda: waits.over)
        assert waits.over == [1]
        journal.append(b"two")
        journal.append(b"three")
        await until(lambda: len(waits.over) == 3)
        assert waits.over == [1, 2, 3]

    run(scenario)


def test_those_that_wait_for_one_flush_go_in_the_order_of_their_records(bench: Bench) -> None:
    async def scenario() -> None:
        journal = bench.open()
        journal.start(fail)
        bench.hold()
        for number in range(1, 21):
            assert journal.append(b"record") == number
        waits = Waits(journal)
        await waits.begin(*range(1, 21))
        bench.release()
        await until(lambda: len(waits.over) == 20)
        assert waits.over == list(range(1, 21))

    run(scenario)


def test_one_that_waits_no_more_stands_in_nobodys_way(bench: Bench) -> None:
    async def scenario() -> None:
        journal = bench.open()
        journal.start(fail)
        bench.hold()
        for _ in range(3):
            journal.append(b"record")
        waits = Waits(journal)
        await waits.begin(1, 2, 3)
        await waits.cancel(1, 2)
        bench.release()
        await until(lambda: waits.over)
        assert waits.over == [3]

    run(scenario)


def test_a_record_that_is_too_large_is_refused_and_takes_no_number(bench: Bench) -> None:
    async def scenario() -> None:
        journal = bench.open()
        journal.start(fail)
        with pytest.raises(wal.RecordTooLarge):
            journal.append(bytes(wal.RECORD_BYTES_MAX + 1))
        assert journal.append(b"one") == 1
        await journal.wait_durable(1)
        assert bench.stored() == [b"one"]

    run(scenario)


def test_without_room_records_are_taken_and_room_comes_back(bench: Bench) -> None:
    async def scenario() -> None:
        journal = bench.open()
        journal.start(fail)
        assert has_room(journal)
        bench.take_room()
        written: list[bytes] = []
        while has_room(journal):
            written.append(bytes(SEGMENT_BYTES // 8))
            await journal.wait_durable(journal.append(written[-1]))
            await settle()
        # An end, say, which there is always room for.
        written.append(b"the end")
        await journal.wait_durable(journal.append(written[-1]))
        assert not has_room(journal)
        assert journal.room_fields()
        bench.give_room()
        # Nobody has to append for that.
        await until(lambda: has_room(journal))
        written.append(b"more")
        await journal.wait_durable(journal.append(written[-1]))
        assert bench.stored() == written

    run(scenario)


def test_a_failure_is_told_once_and_nothing_is_durable_after_it(bench: Bench) -> None:
    async def scenario() -> None:
        journal = bench.open()
        failures = Failures()
        journal.start(failures)
        journal.append(b"one")
        await journal.wait_durable(1)
        bench.hold()
        journal.append(b"two")
        waits = Waits(journal)
        await waits.begin(2)
        bench.fail()
        await until(lambda: failures.errors)
        with pytest.raises(wal.LogFailed):
            journal.append(b"three")
        bench.release()
        await waits.begin(3)
        assert [type(each) for each in failures.errors] == [wal.LogFailed]
        # Whether it is stored, nobody knows: no one is told that it is.
        assert journal.durable_lsn == 1
        assert waits.over == []
        await waits.cancel(2, 3)

    run(scenario)


def test_a_closed_one_takes_no_records(bench: Bench) -> None:
    async def scenario() -> None:
        journal = bench.open()
        journal.start(fail)
        journal.append(b"one")
        bench.close()
        with pytest.raises(wal.LogClosed):
            journal.append(b"two")
        bench.close()
        assert bench.stored() == [b"one"]

    run(scenario)
