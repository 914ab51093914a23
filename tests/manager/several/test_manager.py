"""One of several managers over a log in PostgreSQL, and each moment at which it may have to end."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgpack
import psycopg
import pytest

from tests.client.fake_manager import wait_for_answers
from tests.journal.parties import Journal
from tests.manager.harness import DEADLINE_SECONDS, until
from tests.postgresql import PostgreSQL
from titan import Client
from titan.errors import Refused, TitanError
from titan.journal.appender import Appender
from titan.journal.database import Database
from titan.journal.errors import JournalUnavailable
from titan.journal.lease import LeaseTable
from titan.journal.members import MemberTable
from titan.journal.rows import Row
from titan.manager import directory as data_directory
from titan.manager.door import open_door
from titan.manager.options import ManagerOptions
from titan.manager.recovery import StartRefused
from titan.manager.several import lease_holder, row_watch
from titan.manager.several import manager as manager_module
from titan.manager.several import upkeep as upkeep_module
from titan.manager.several.follower import Follower
from titan.manager.several.manager import SharedManager
from titan.manager.several.own_copy import OwnCopy
from titan.manager.start import open_up
from titan.manager.term import end_all
from titan.metrics.calls import Calls

# Nobody waits for it to run out: what a test says of a takeover holds because it was given back.
LONG_SECONDS: Final = 600.0
LATER: Final = msgpack.packb((1, [[60_000]]))


@pytest.fixture
def journal(postgresql: PostgreSQL) -> Iterator[Journal]:
    made = Journal(postgresql.make_database())
    yield made
    made.close()


class Connected(Database):
    """Its connections are closed at the end, as those of a process are.

    That of a thread which nobody waits for may be made after it.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._made: list[psycopg.Connection[Any]] = []
        self._lock = threading.Lock()
        self._is_closed = False

    def _connect(self, purpose: str) -> psycopg.Connection[Any]:
        made = super()._connect(purpose)
        with self._lock:
            self._made.append(made)
            if self._is_closed:
                made.close()
        return made

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            for each in self._made:
                each.close()


class Party:
    """One manager in this process: all of it but the process."""

    def __init__(self, directory: Path, url: str, lease_seconds: float) -> None:
        self.options = ManagerOptions(
            data_directory=directory,
            listen="127.0.0.1:0",
            journal_url=url,
            lease_seconds=lease_seconds,
            segment_bytes=1 << 16,
        )
        self.stop = asyncio.Event()
        self._running: list[asyncio.Task[Any]] = []

    async def start(self) -> None:
        assert self.options.journal_url is not None
        data_directory.prepare(self.options.data_directory, is_shared=True)
        self.door = open_door(self.options)
        calls = Calls()
        services = await open_up(self.options, self.door, calls, self._running)
        self._database = Connected(self.options.journal_url)
        self.manager = SharedManager(
            self.options, self.door, services, calls, self._database, self.stop
        )
        self.life = asyncio.create_task(self.manager.run())

    async def end(self) -> bool:
        """Whether it begins anew, which it should not on request."""
        self.stop.set()
        return await self.over()

    async def over(self) -> bool:
        """Waits for its end; whether it begins anew."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.life

    async def close(self) -> None:
        self.stop.set()
        await asyncio.gather(self.life, return_exceptions=True)
        await end_all(self._running)
        await self.door.server.stop(0)
        self._database.close()

    async def ask(self, question: Callable[[Client], Any]) -> Any:
        """A client's, who knows this manager only, and does not try twice."""

        def work() -> Any:
            access = self.options.data_directory / "access.json"
            with Client(self.door.address, access_file=access, retry_for_seconds=0) as client:
                return question(client)

        return await asyncio.to_thread(work)


class Parties:
    """All managers of one test."""

    def __init__(self, root: Path, url: str) -> None:
        self._root = root
        self._url = url
        self._parties: list[Party] = []

    async def start(self, lease_seconds: float = LONG_SECONDS, *, url: str = "") -> Party:
        name = f"manager-{len(self._parties)}"
        made = Party(self._root / name, url or self._url, lease_seconds)
        await made.start()
        self._parties.append(made)
        return made

    async def close(self) -> None:
        for each in self._parties:
            await each.close()


@pytest.fixture(autouse=True)
def _who_tries_once_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process may stand still for longer than such a call, or its connection, has."""
    wait_for_answers(monkeypatch)


Scenario = Callable[[Parties], Any]


@asynccontextmanager
async def parties_in(root: Path, url: str) -> AsyncIterator[Parties]:
    made = Parties(root, url)
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
def run(tmp_path: Path, journal: Journal) -> Callable[[Scenario], None]:
    def runs(scenario: Scenario) -> None:
        async def whole() -> None:
            async with parties_in(tmp_path, journal.url) as parties:
                await scenario(parties)

        asyncio.run(whole())

    return runs


async def ready(party: Party) -> None:
    """It leads, and answers as one that does."""

    async def answers() -> bool:
        try:
            await party.ask(lambda client: client.queue())
        except TitanError:
            return False
        return True

    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await answers():  # noqa: ASYNC110 - it asks
            await asyncio.sleep(0.02)


def stands_by(party: Party) -> bool:
    """It follows the log of another one, which it has found to lead."""
    return party.manager.lease.leader not in ("", party.door.address)


def test_one_leads_the_other_follows_and_takes_over_at_once_when_it_is_stopped(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(parties: Parties) -> None:
        first = await parties.start()
        await ready(first)
        job_id = (await first.ask(lambda client: client.submit(["true"]))).id
        second = await parties.start()
        await until(lambda: stands_by(second))
        with pytest.raises(TitanError, match=f"does not lead: {first.door.address} does"):
            await second.ask(lambda client: client.show(job_id))
        assert await first.end() is False
        await ready(second)
        assert second.manager.lease.term == 2
        assert (await second.ask(lambda client: client.submit(["true"]))).id == job_id + 1

    run(scenario)


def test_one_that_leads_has_no_session_that_is_told_of_rows_and_does_not_hear(
    run: Callable[[Scenario], None], journal: Journal
) -> None:
    """The server keeps for it what it was not told yet, and takes no more rows once that is full"""

    def sessions() -> set[str]:
        found = journal.execute(
            "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
        )
        return {name for (name,) in found}

    async def scenario(parties: Parties) -> None:
        one = await parties.start()
        await ready(one)
        assert "titan append" in sessions()
        await until(lambda: not {"titan tail", "titan follow"} & sessions())

    run(scenario)


def test_one_steps_down_for_another_and_not_for_nobody(run: Callable[[Scenario], None]) -> None:
    async def scenario(parties: Parties) -> None:
        first = await parties.start()
        await ready(first)
        with pytest.raises(Refused, match="no other manager stands by"):
            first.manager.step_down()
        second = await parties.start()
        await until(lambda: first.manager._upkeep and first.manager._upkeep.others)
        first.manager.step_down()
        assert await first.over() is True
        await ready(second)

    run(scenario)


def test_one_that_is_deposed_begins_anew_and_says_nothing_more(
    run: Callable[[Scenario], None], journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    renew_often(monkeypatch)

    async def scenario(parties: Parties) -> None:
        first = await parties.start()
        await ready(first)
        depose(journal)
        assert await first.over() is True
        assert not first.manager.lease.leads()
        # What it gave back was its own, which the other one's is not.
        lease = journal.lease.read()
        assert lease.holder == "another"
        assert lease.seconds_left > 0

    run(scenario)


def test_one_whose_database_is_away_says_that_it_does_not_lead_and_can_be_stopped(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(parties: Parties, port: int) -> None:
        one = await parties.start(url=f"postgresql://127.0.0.1:{port}/nothing")
        await until(lambda: one.manager._reaching.was_away)
        with pytest.raises(TitanError, match="does not lead"):
            await one.ask(lambda client: client.queue())
        assert await one.end() is False

    # Nobody listens at a port that is taken and not listened at.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        run(lambda parties: scenario(parties, taken.getsockname()[1]))


def renew_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that is lost is missed soon, and does not run out while the machine stands still."""
    monkeypatch.setattr(lease_holder, "RENEWALS", LONG_SECONDS / 0.3)


def is_given_back(journal: Journal) -> bool:
    """Whether anybody could lead now, though the lease would have lasted for long."""
    lease = journal.lease.read()
    return lease.term == 1 and lease.seconds_left == 0


def depose(journal: Journal) -> None:
    """Another one takes the lease, though it is not free: as where the database's clock jumps."""
    journal.execute(
        "UPDATE titan_journal.lease SET term = term + 1, holder = 'another',"
        " expires = clock_timestamp() + interval '1 hour'"
    )


class Stage:
    """A moment in a manager's life, at which it stands until it may go on."""

    def __init__(self) -> None:
        self.is_reached = threading.Event()
        self.goes_on = threading.Event()

    def wait(self) -> None:
        self.is_reached.set()
        assert self.goes_on.wait(DEADLINE_SECONDS)

    def before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, which begins when it may."""

        def waits(*arguments: Any, **named: Any) -> Any:
            self.wait()
            return call(*arguments, **named)

        return waits


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.goes_on.set()


@pytest.mark.parametrize("what", ["prepare_mirror", "recover", "check_secrets_key"])
def test_one_that_comes_to_the_log_can_be_stopped(
    what: str, run: Callable[[Scenario], None], stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager_module, what, stage.before(getattr(manager_module, what)))

    async def scenario(parties: Parties) -> None:
        one = await parties.start()
        await until(stage.is_reached.is_set)
        with pytest.raises(TitanError, match="does not lead"):
            await one.ask(lambda client: client.queue())
        # Though the thread that does it stands still.
        assert await one.end() is False

    run(scenario)


@pytest.mark.parametrize(
    "moment", ["it takes the lease", "it reads the rest", "it begins to append", "its first record"]
)
def test_one_that_is_stopped_while_it_takes_over_keeps_nobody_waiting(
    moment: str,
    run: Callable[[Scenario], None],
    stage: Stage,
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if moment == "it takes the lease":
        monkeypatch.setattr(LeaseTable, "try_take", stage.before(LeaseTable.try_take))
    elif moment == "it reads the rest":
        catch_up = Follower.catch_up

        async def once_it_is_taken(follower: Follower) -> None:
            if journal.lease.read().term:
                await asyncio.to_thread(stage.wait)
            await catch_up(follower)

        monkeypatch.setattr(Follower, "catch_up", once_it_is_taken)
    elif moment == "it begins to append":
        monkeypatch.setattr(manager_module, "Appender", stage.before(Appender))
    else:
        monkeypatch.setattr(Appender, "append", stage.before(Appender.append))

    async def scenario(parties: Parties) -> None:
        one = await parties.start()
        await until(stage.is_reached.is_set)
        one.stop.set()
        stage.goes_on.set()
        assert await one.over() is False
        # A database that takes its time is not waited for.
        await until(lambda: is_given_back(journal))

    run(scenario)


def test_one_that_cannot_begin_to_append_gives_the_lease_back_and_begins_anew(
    run: Callable[[Scenario], None], journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise JournalUnavailable("it is to be away")

    monkeypatch.setattr(manager_module, "Appender", away)

    async def scenario(parties: Parties) -> None:
        one = await parties.start()
        begun = time.monotonic()
        assert await one.over() is True
        assert time.monotonic() - begun >= manager_module.LIFE_SECONDS_MIN
        await until(lambda: is_given_back(journal))

    run(scenario)


def test_one_whose_last_row_is_not_confirmed_can_be_stopped_and_another_takes_over(
    run: Callable[[Scenario], None], journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(parties: Parties) -> None:
        first = await parties.start()
        await ready(first)
        with journal.transaction() as connection:
            connection.execute("LOCK TABLE titan_journal.journal IN EXCLUSIVE MODE")
            asked = asyncio.create_task(first.ask(lambda client: client.submit(["true"])))
            await until(lambda: _waits_for_lock(journal))
            assert await first.end() is False
            with pytest.raises(TitanError):
                await asked
        assert "the last records may not be in the journal" in caplog.text
        second = await parties.start()
        await ready(second)
        # Whether it was written nobody knows, and nobody was told that it was.
        assert len(await second.ask(lambda client: client.queue())) <= 1

    run(scenario)


def test_a_row_that_is_never_confirmed_ends_the_term(
    run: Callable[[Scenario], None],
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Rows before the one that waits may be slow, too, and none is given up before it was told.
    monkeypatch.setattr(row_watch, "SLOW_SECONDS", 600.0)
    monkeypatch.setattr(row_watch, "ANSWER_SECONDS_MAX", 600.0)
    told = "the journal has not confirmed a row yet"

    async def scenario(parties: Parties) -> None:
        first = await parties.start()
        await ready(first)
        with journal.transaction() as connection:
            connection.execute("LOCK TABLE titan_journal.journal IN EXCLUSIVE MODE")
            asked = asyncio.create_task(first.ask(lambda client: client.submit(["true"])))
            await until(lambda: _waits_for_lock(journal))
            monkeypatch.setattr(row_watch, "SLOW_SECONDS", 0.2)
            await until(lambda: told in caplog.text)
            # It looks again, and does not tell it again.
            await asyncio.sleep(row_watch.LOOK_SECONDS)
            monkeypatch.setattr(row_watch, "ANSWER_SECONDS_MAX", 0.2)
            assert await first.over() is True
            with pytest.raises(TitanError):
                await asked
        assert caplog.text.count(told) == 1

    run(scenario)


def test_a_first_row_that_is_never_confirmed_ends_the_term_too(
    run: Callable[[Scenario], None],
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(row_watch, "ANSWER_SECONDS_MAX", 600.0)

    async def scenario(parties: Parties) -> None:
        with journal.transaction() as connection:
            connection.execute("LOCK TABLE titan_journal.journal IN EXCLUSIVE MODE")
            one = await parties.start()
            await until(lambda: "the first record is not durable: waiting for it" in caplog.text)
            monkeypatch.setattr(row_watch, "ANSWER_SECONDS_MAX", 0.2)
            assert await one.over() is True

    run(scenario)


def _waits_for_lock(journal: Journal) -> bool:
    return bool(
        journal.execute(
            "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'titan_journal.journal'"
            "::regclass"
        )
    )


def test_a_standby_without_room_leaves_the_lease_to_others(
    run: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    full: set[OwnCopy] = set()
    add = OwnCopy.add

    def refuses(copy: OwnCopy, row: Row) -> bool:
        return copy not in full and add(copy, row)

    made: list[OwnCopy] = []
    monkeypatch.setattr(OwnCopy, "add", refuses)
    init = OwnCopy.__init__

    def note(copy: OwnCopy, mirror: Any) -> None:
        init(copy, mirror)
        made.append(copy)

    monkeypatch.setattr(OwnCopy, "__init__", note)

    async def scenario(parties: Parties) -> None:
        first = await parties.start()
        await ready(first)
        second = await parties.start()
        await until(lambda: stands_by(second))
        full.add(made[1])
        job_id = (await first.ask(lambda client: client.submit(["true"]))).id
        await until(lambda: second.manager._is_behind)
        assert await first.end() is False
        third = await parties.start()
        await ready(third)
        assert not second.life.done()
        full.clear()
        assert await third.end() is False
        await ready(second)
        assert await second.ask(lambda client: client.show(job_id))

    run(scenario)


def test_a_standby_says_of_what_a_later_version_wrote_which_one_it_needs(
    run: Callable[[Scenario], None], journal: Journal
) -> None:
    async def scenario(parties: Parties) -> None:
        leader = journal.leader("another")
        one = await parties.start()
        await until(lambda: stands_by(one))
        leader.append([LATER])
        with pytest.raises(StartRefused, match=r"cannot follow: record 1 was written by a later"):
            await one.over()

    run(scenario)


def test_a_standby_says_so_when_it_cannot_apply_what_another_wrote(
    run: Callable[[Scenario], None], journal: Journal
) -> None:
    async def scenario(parties: Parties) -> None:
        leader = journal.leader("another")
        one = await parties.start()
        await until(lambda: stands_by(one))
        leader.append([b"no record at all"])
        with pytest.raises(StartRefused, match="cannot follow: record 1"):
            await one.over()

    run(scenario)


def test_one_that_is_stopped_while_it_begins_anew_ends(
    run: Callable[[Scenario], None], journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal was for this process, and nobody would send it to the one in its place again."""
    renew_often(monkeypatch)

    async def scenario(parties: Parties) -> None:
        first = await parties.start()
        await ready(first)
        let_go = first.manager._let_go

        async def stopped() -> None:
            first.stop.set()
            await let_go()

        monkeypatch.setattr(first.manager, "_let_go", stopped)
        depose(journal)
        assert await first.over() is False

    run(scenario)


def test_a_manager_that_is_not_listed_any_more_is_no_other(
    run: Callable[[Scenario], None], journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is gone is not stepped down for."""
    # It says so once, and is to be seen in any of the looks that follow.
    monkeypatch.setattr(upkeep_module, "GONE_SECONDS", 600.0)
    members = journal.closed_at_end(MemberTable(journal.database))

    async def scenario(parties: Parties) -> None:
        first = await parties.start()
        await ready(first)
        members.seen("10.0.0.9:50051", 0)
        await until(lambda: first.manager._upkeep and first.manager._upkeep.others)
        journal.execute(
            "UPDATE titan_journal.manager SET seen_at = seen_at - interval '1 hour'"
            " WHERE address = '10.0.0.9:50051'"
        )
        await until(lambda: first.manager._upkeep and not first.manager._upkeep.others)
        with pytest.raises(Refused):
            first.manager.step_down()

    run(scenario)
