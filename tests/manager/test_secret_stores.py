"""What holds for secrets wherever they are kept: in files, or sealed in the journal's database."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cluster import DEADLINE_SECONDS
from titan.checks import SECRET_BYTES_MAX
from titan.journal.database import Database
from titan.journal.lease import LeaseTable
from titan.manager.secret_files import SecretFiles
from titan.manager.secret_store import SecretStore
from titan.manager.several.sealed_secrets import SealedSecrets
from titan.manager.several.secrets_key import SecretsKey

ID = b"I" * 16
OTHER = b"O" * 16
VALUES = {b"TOKEN": b"hunter2\xff", b"EMPTY": b""}


# What opens the same store again, as the next start does.
Open = Callable[[], SecretStore]


@pytest.fixture(params=["files", "database"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    opened: list[SecretStore] = []
    if request.param == "files":

        def make() -> SecretStore:
            return SecretFiles(tmp_path / "secrets")

    else:
        database = Database(request.getfixturevalue("postgresql").make_database())
        log_id = database.create()
        lease = LeaseTable(database)
        term = lease.try_take("me", "", 60)
        lease.close()
        assert term is not None
        key = SecretsKey(b"K" * 32)

        def make() -> SecretStore:
            return SealedSecrets(database, log_id, term, key)

    def open_one() -> SecretStore:
        opened.append(make())
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


def test_what_was_written_is_read_at_the_next_start_too_and_gone_once_it_is_removed(
    open_store: Open,
) -> None:
    store = open_store()
    store.write({ID: VALUES, OTHER: {b"A": b"1"}})
    for each in (store, open_store()):
        assert each.read(ID) == VALUES
        assert each.list().keys() == {ID, OTHER}
        assert each.unreadable() == ""
    store.remove(ID)
    store.remove(ID)
    assert store.read(ID) is None
    assert open_store().list().keys() == {OTHER}


def test_several_are_removed_with_those_that_are_not_there(open_store: Open) -> None:
    store = open_store()
    store.write({ID: VALUES, OTHER: VALUES})
    store.remove(ID, b"none" * 4, OTHER)
    assert store.list() == {}


def test_the_largest_that_are_allowed_are_read_again(open_store: Open) -> None:
    many = {b"%d" % each: b"" for each in range(SECRET_BYTES_MAX // 7)}
    store = open_store()
    store.write({ID: {b"V": os.urandom(SECRET_BYTES_MAX)}, OTHER: many})
    assert store.read(OTHER) == many
    assert SECRET_BYTES_MAX < store.list()[ID] <= SECRET_BYTES_MAX + 4096


def test_threads_may_call_it_at_once(open_store: Open) -> None:
    store, together = open_store(), threading.Barrier(4)

    def work(number: int) -> bool:
        together.wait(DEADLINE_SECONDS)
        ids = [b"%d-%014d" % (number, each) for each in range(20)]
        for each in ids:
            store.write({each: {b"A": each}})
        are_right = all(store.read(each) == {b"A": each} for each in ids)
        store.remove(*ids)
        return are_right

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(work, range(4)))
    assert store.list() == {}
