"""Secrets in the journal's database: what it learns of them, who may change them, what if not."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest

from tests.cluster import wait_until
from tests.manager.harness import SlowDisk, fake_worker, running_manager, until
from tests.manager.test_secrets import VALUE, secret_request, secrets_sent, send, state_of, stored
from tests.postgresql import PostgreSQL
from titan.errors import NoRoom, Refused
from titan.journal.database import Database
from titan.journal.lease import LeaseTable
from titan.manager import secret_desk
from titan.manager.dispatch import Dispatcher
from titan.manager.kernel import Kernel, Settings
from titan.manager.secret_desk import SecretDesk
from titan.manager.secret_store import SecretsAway, SecretStore, SecretsUnreadable
from titan.manager.several.sealed_secrets import SealedSecrets, check_secrets_key, open_secret_store
from titan.manager.several.secrets_key import SecretsKey
from titan.manager.shell import Shell
from titan.rpc.v1 import task_pb2

ID = b"I" * 16
OTHER = b"O" * 16
KEY = SecretsKey(b"K" * 32)
NEW_KEY = SecretsKey(b"N" * 32)
BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


class SharedJournal:
    """A database with a journal, and whose turn it is to lead."""

    def __init__(self, server: PostgreSQL) -> None:
        self.url = server.make_database()
        self.database = Database(self.url)
        self.log_id = self.database.create()
        self.sql = psycopg.connect(self.url, autocommit=True)
        self._lease = LeaseTable(self.database)
        self._opened: list[SecretStore] = []
        self.term = 0

    def take_over(self) -> None:
        """Another one leads now."""
        self._lease.release(self.term)
        term = self._lease.try_take(f"manager {self.term + 1}", "", 60)
        assert term is not None
        self.term = term

    def open(self, key: SecretsKey | None = KEY, *, seconds: float = 20) -> SealedSecrets:
        """What the manager has that leads now."""
        store = SealedSecrets(self.database, self.log_id, self.term, key, seconds=seconds)
        self._opened.append(store)
        return store

    def ids(self) -> set[bytes]:
        """Whose rows there are."""
        return {row[0] for row in self.sql.execute("SELECT id FROM titan_journal.secret")}

    def is_waited(self) -> bool:
        """Whether somebody waits for a lock."""
        row = self.sql.execute(BLOCKED).fetchone()
        return row is not None and row[0] > 0

    def close(self) -> None:
        """Ends all connections."""
        for each in self._opened:
            each.close()
        self._lease.close()
        self.sql.close()


@pytest.fixture
def journal(postgresql: PostgreSQL) -> Iterator[SharedJournal]:
    made = SharedJournal(postgresql)
    made.take_over()
    yield made
    made.close()


def desk_on(store: SecretStore, records: list[bytes]) -> SecretDesk:
    kernel = Kernel(state_of(records), Settings())
    return SecretDesk(Shell(kernel, SlowDisk(), Dispatcher()), store)


async def fill(desk: SecretDesk, secret_id: bytes) -> Any:
    """The environment of a batch, as a worker would get it."""
    request = task_pb2.StartTaskRequest()
    request.environments.add().secrets.add(name=b"TOKEN")
    await desk.fill(request, {0: secret_id})
    return request.environments[0]


def test_the_next_leader_has_them_and_removes_what_no_job_came_to_need(
    journal: SharedJournal,
) -> None:
    async def scenario() -> None:
        store = journal.open()
        async with running_manager(secret_store=store) as manager, fake_worker() as worker:
            await send(manager, secret_request())
            needed = stored(manager)[0].secret_id
            store.write({OTHER: {b"A": b"1"}})
            assert journal.ids() == {needed, OTHER}
            records = list(manager.disk.records)
            await manager.register(worker)
            await until(lambda: worker.starts)
            assert secrets_sent(worker) == [(b"TOKEN", VALUE)]
            journal.take_over()
            desk = desk_on(journal.open(), records)
            assert journal.ids() == {needed}
            assert [each.value for each in (await fill(desk, needed)).secrets] == [VALUE]
            await desk.close()

    asyncio.run(scenario())


def test_the_database_its_log_and_ours_have_nothing_of_a_value_or_the_key(
    journal: SharedJournal, postgresql: PostgreSQL, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    name = journal.url.rpartition("/")[2]
    journal.sql.execute(f"ALTER DATABASE {name} SET log_statement = 'all'")

    async def scenario() -> None:
        async with running_manager(secret_store=journal.open()) as manager:
            await send(manager, secret_request())
            assert len(journal.ids()) == 1

    asyncio.run(scenario())
    tables = journal.sql.execute(
        "SELECT format('SELECT t::text FROM %I.%I AS t', table_schema, table_name)"
        " FROM information_schema.tables WHERE table_schema = 'titan_journal'"
    ).fetchall()
    told = [row[0] for (query,) in tables for row in journal.sql.execute(query)]
    assert len(tables) >= 5
    assert any(each.hex() in line for each in journal.ids() for line in told)
    told.append(caplog.text)
    if postgresql.is_own:
        log = postgresql.read_log()
        assert "INSERT INTO titan_journal.secret" in log
        told.append(log)
    for secret in (VALUE, b"K" * 32):
        for text in (secret.decode(), secret.hex(), base64.b64encode(secret).decode().rstrip("=")):
            assert not any(text in each for each in told)


def test_a_row_opens_in_no_other_place_and_in_no_other_log(journal: SharedJournal) -> None:
    store = journal.open()
    store.write({ID: {b"A": b"1"}, OTHER: {b"A": b"2"}})
    journal.sql.execute(
        "UPDATE titan_journal.secret SET sealed = (SELECT sealed FROM titan_journal.secret"
        " WHERE id = %b) WHERE id = %b",
        (ID, OTHER),
    )
    with pytest.raises(SecretsUnreadable, match="moved here from elsewhere"):
        store.read(OTHER)
    elsewhere = SealedSecrets(journal.database, b"another log's id", journal.term, KEY)
    with pytest.raises(SecretsUnreadable, match="moved here from elsewhere"):
        elsewhere.read(ID)
    elsewhere.close()
    assert store.read(ID) == {b"A": b"1"}


def test_a_manager_with_another_key_says_so_at_its_start_and_fails_the_tasks(
    journal: SharedJournal, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with running_manager(secret_store=journal.open()) as manager:
            await send(manager, secret_request())
            needed = stored(manager)[0].secret_id
            records = list(manager.disk.records)
            for key, told in (
                (NEW_KEY, f"--secrets-key has {NEW_KEY.ids[0].hex()}"),
                (None, "--secrets-key was not given"),
            ):
                caplog.clear()
                journal.take_over()
                desk = desk_on(journal.open(key), records)
                assert f"sealed are 1 with the key {KEY.ids[0].hex()}; {told}" in caplog.text
                environment = await fill(desk, needed)
                assert "can't be read from the journal's database" in environment.secrets_fault
                await desk.close()
            caplog.clear()
            journal.take_over()
            # The key was replaced, and the old one is there to open.
            desk = desk_on(journal.open(SecretsKey(b"N" * 32, b"K" * 32)), records)
            assert [each.value for each in (await fill(desk, needed)).secrets] == [VALUE]
            assert "can't be opened" not in caplog.text
            await desk.close()

    asyncio.run(scenario())


def test_a_standby_tells_of_a_wrong_key_before_it_leads(
    journal: SharedJournal, tmp_path: Path
) -> None:
    journal.open().write({ID: {b"A": b"1"}})
    path = tmp_path / "key"
    for key, told in ((b"K" * 32, ""), (b"N" * 32, "sealed are 1 with the key")):
        path.write_bytes(base64.b64encode(key))
        path.chmod(0o600)
        assert check_secrets_key(path, journal.database, journal.log_id).startswith(told)
        assert bool(check_secrets_key(path, journal.database, journal.log_id)) is bool(told)
    assert "was not given" in check_secrets_key(None, journal.database, journal.log_id)
    assert journal.ids() == {ID}


def test_without_a_key_submits_with_secrets_are_refused_and_others_are_not(
    journal: SharedJournal,
) -> None:
    async def scenario() -> None:
        store = open_secret_store(None, journal.database, journal.log_id, journal.term)
        async with running_manager(secret_store=store) as manager:
            with pytest.raises(grpc.aio.AioRpcError, match="with --secrets-key FILE") as caught:
                await send(manager, secret_request())
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            await until(lambda: not manager.secrets.size_bytes)
            assert not journal.ids()
            plain = secret_request()
            del plain.environments[0].secrets[:]
            assert await send(manager, plain) == [1]

    asyncio.run(scenario())


def test_a_manager_that_was_deposed_writes_none_and_removes_none_that_the_next_one_needs(
    journal: SharedJournal,
) -> None:
    before = journal.open()
    before.write({ID: {b"A": b"1"}})
    journal.take_over()
    journal.open().write({OTHER: {b"A": b"2"}})
    with pytest.raises(SecretsAway, match="another manager leads"):
        before.write({b"late" * 4: {b"A": b"3"}})
    with pytest.raises(SecretsAway, match="another manager leads"):
        before.remove(ID, OTHER)

    # One that was suspended in its start, and knows of no job.
    async def start() -> None:
        with pytest.raises(SecretsAway, match="another manager leads"):
            desk_on(before, [])

    asyncio.run(start())
    assert journal.ids() == {ID, OTHER}


@pytest.mark.parametrize("call", ["write", "remove"])
def test_what_meets_a_take_over_waits_for_it_and_then_does_nothing(
    journal: SharedJournal, call: str
) -> None:
    store = journal.open()
    store.write({ID: {b"A": b"1"}})
    with psycopg.connect(journal.url) as other, ThreadPoolExecutor(1) as thread:
        other.execute("UPDATE titan_journal.lease SET term = term + 1")
        late = (
            thread.submit(store.write, {OTHER: {b"A": b"2"}})
            if call == "write"
            else thread.submit(store.remove, ID)
        )
        wait_until(journal.is_waited, "it waits for the lease")
        other.commit()
        with pytest.raises(SecretsAway, match="another manager leads"):
            late.result(20)
    assert journal.ids() == {ID}


def test_a_renewal_of_the_lease_holds_up_nobody(journal: SharedJournal) -> None:
    store = journal.open(seconds=30)
    with psycopg.connect(journal.url) as other:
        other.execute("UPDATE titan_journal.lease SET expires = clock_timestamp() + '1 minute'")
        store.write({ID: {b"A": b"1"}})
        store.remove(ID)


def test_a_connection_that_was_lost_meanwhile_is_made_again(journal: SharedJournal) -> None:
    store = journal.open()

    def lose() -> None:
        journal.sql.execute(
            "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity"
            " WHERE application_name = 'titan secrets' AND datname = current_database()"
        )

    store.write({ID: {b"A": b"1"}})
    lose()
    store.write({OTHER: {b"A": b"2"}})
    lose()
    assert store.read(ID) == {b"A": b"1"}
    lose()
    assert store.list().keys() == {ID, OTHER}
    lose()
    store.remove(ID)
    assert journal.ids() == {OTHER}


def test_a_submit_of_which_nobody_knows_if_its_secrets_were_kept_is_refused_and_may_come_again(
    journal: SharedJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_desk, "REMOVE_AGAIN_SECONDS", 0.01)

    async def scenario() -> None:
        store = journal.open()
        session = store._table._session
        async with running_manager(secret_store=store) as manager:
            with psycopg.connect(journal.url) as other:
                # The server has the statement, and nobody hears what became of it.
                other.execute("SELECT FROM titan_journal.lease FOR UPDATE")
                monkeypatch.setattr(session, "seconds", 0.5)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await send(manager, secret_request(request_id=b"R" * 16))
                # What follows has time.
                monkeypatch.setattr(session, "seconds", 20.0)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
                assert not manager.shell.kernel.state.live_jobs
            assert await send(manager, secret_request(request_id=b"R" * 16)) == [1]
            assert stored(manager)[0].secret_id in journal.ids()
            records = list(manager.disk.records)
            needed = {stored(manager)[0].secret_id}
            await asyncio.to_thread(
                wait_until, lambda: not journal.is_waited(), "the statements end"
            )
            journal.take_over()
            await desk_on(journal.open(), records).close()
            assert journal.ids() == needed

    asyncio.run(scenario())


def test_a_database_that_is_away_for_a_while_fails_no_task(
    journal: SharedJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_desk, "KEPT_BYTES_MAX", 0)
    monkeypatch.setattr(secret_desk, "AWAY_PAUSE_SECONDS", 0.01)
    read, tries = SealedSecrets.read, []

    def failing(self: SealedSecrets, secret_id: bytes) -> Any:
        tries.append(secret_id)
        if len(tries) < 3 * secret_desk.READ_TRIES:
            raise SecretsAway("the database is away")
        return read(self, secret_id)

    monkeypatch.setattr(SealedSecrets, "read", failing)

    async def scenario() -> None:
        store = journal.open()
        async with running_manager(secret_store=store) as manager, fake_worker() as worker:
            await manager.register(worker)
            await send(manager, secret_request())
            await until(lambda: worker.starts)
            assert secrets_sent(worker) == [(b"TOKEN", VALUE)]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    [
        ("53100", NoRoom, "no room for secrets"),
        ("42501", Refused, "can't keep secrets"),
        ("57014", SecretsAway, "not kept"),
    ],
)
def test_what_the_server_refuses_is_told_by_its_kind(
    journal: SharedJournal, state: str, kind: type[Exception], words: str
) -> None:
    journal.sql.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'it fails' USING ERRCODE = '{state}'; END $$"
    )
    journal.sql.execute(
        "CREATE TRIGGER fail BEFORE INSERT ON titan_journal.secret"
        " FOR EACH ROW EXECUTE FUNCTION fail()"
    )
    with pytest.raises(kind, match=words):
        journal.open().write({ID: {b"A": VALUE}})


def test_a_commit_that_is_warned_of_does_not_count(journal: SharedJournal) -> None:
    """As of one that no standby has confirmed."""
    journal.sql.execute(
        "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE WARNING 'canceling wait'; RETURN NEW; END $$"
    )
    journal.sql.execute(
        "CREATE TRIGGER warn BEFORE INSERT ON titan_journal.secret"
        " FOR EACH ROW EXECUTE FUNCTION warn()"
    )
    with pytest.raises(SecretsAway, match="canceling wait"):
        journal.open().write({ID: {b"A": VALUE}})


def test_a_server_that_was_killed_costs_no_submit_and_no_secret(
    journal: SharedJournal, postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not postgresql.is_own:
        pytest.skip("the server is somebody else's")
    monkeypatch.setattr(secret_desk, "KEPT_BYTES_MAX", 0)
    monkeypatch.setattr(secret_desk, "AWAY_PAUSE_SECONDS", 0.01)

    async def scenario() -> None:
        store = journal.open()
        async with running_manager(secret_store=store) as manager, fake_worker() as worker:
            await send(manager, secret_request())
            postgresql.kill()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await send(manager, secret_request(request_id=b"R" * 16))
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            await manager.register(worker)
            await asyncio.to_thread(postgresql.start)
            assert await send(manager, secret_request(request_id=b"R" * 16)) == [2]
            await until(lambda: len(secrets_sent(worker)) == 2)
            assert secrets_sent(worker) == [(b"TOKEN", VALUE)] * 2

    asyncio.run(scenario())
