"""The lease: one holds it, by the database's clock, and stops believing in it before it is over."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.journal.parties import LONG_SECONDS, Journal
from titan.journal.errors import JournalUnavailable
from titan.journal.lease import Deadline, Lease, LeaseTable


def test_at_first_nobody_leads(journal: Journal) -> None:
    assert journal.lease.read() == Lease(0, "", "", 0)


def test_one_takes_it_and_no_other_until_it_is_over(journal: Journal) -> None:
    lease = journal.lease
    assert lease.try_take("ada", "a:1", LONG_SECONDS) == 1
    found = lease.read()
    assert found[:3] == (1, "ada", "a:1")
    assert 0 < found.seconds_left <= LONG_SECONDS
    assert lease.try_take("bob", "b:1", LONG_SECONDS) is None
    assert lease.try_take("ada", "a:1", LONG_SECONDS) is None
    journal.expire()
    assert lease.read().seconds_left == 0
    assert lease.try_take("bob", "b:1", LONG_SECONDS) == 2
    assert lease.read()[:3] == (2, "bob", "b:1")


def test_the_clock_is_the_databases_and_goes_on_within_a_transaction(journal: Journal) -> None:
    journal.lease.try_take("ada", "a:1", 0.2)
    with journal.transaction() as connection:
        connection.execute("SELECT now()")
        time_asked = time.monotonic()
        while journal.lease.read().seconds_left:
            assert time.monotonic() - time_asked < 20
        assert journal.lease.try_take("bob", "b:1", 60) == 2


def test_a_renewal_holds_it_longer_until_another_term_begins(journal: Journal) -> None:
    lease = journal.lease
    assert lease.try_take("ada", "a:1", 0) == 1
    # It is over, and nobody has taken it.
    assert lease.renew(1, LONG_SECONDS, "a:2")
    assert lease.read().address == "a:2"
    assert lease.try_take("bob", "b:1", LONG_SECONDS) is None
    journal.take("bob")
    assert not lease.renew(1, LONG_SECONDS, "a:2")
    assert lease.read().holder == "bob"


def test_who_lets_it_go_does_not_get_it_back_by_a_renewal(journal: Journal) -> None:
    lease = journal.lease
    term = journal.take()
    lease.release(term + 1)
    assert lease.read().holder == "ada"
    lease.release(term)
    assert lease.read() == Lease(term, "", "", 0)
    assert not lease.renew(term, LONG_SECONDS, "a:1")
    assert lease.try_take("bob", "b:1", LONG_SECONDS) == term + 1


def test_of_many_at_once_one_takes_it(journal: Journal) -> None:
    def take(name: str) -> int | None:
        with closing(LeaseTable(journal.database)) as lease:
            return lease.try_take(name, name, LONG_SECONDS)

    with ThreadPoolExecutor(6) as threads:
        assert sorted(map(str, threads.map(take, "abcdef"))) == ["1"] + 5 * ["None"]


def test_a_taking_that_has_to_wait_long_gives_up_and_takes_nothing(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server gives up: it would take it later, for nobody."""
    monkeypatch.setattr("titan.journal.lease.LOCK_FIRST", "SET lock_timeout = 100")
    with (
        closing(LeaseTable(journal.database)) as lease,
        journal.transaction() as connection,
    ):
        connection.execute("SELECT FROM titan_journal.lease FOR KEY SHARE")
        with pytest.raises(JournalUnavailable, match="lock timeout"):
            lease.try_take("bob", "b:1", 60)
        connection.rollback()
        assert lease.read().term == 0
        assert lease.try_take("bob", "b:1", 60) == 1


def test_hundreds_of_renewals_leave_the_table_small(journal: Journal) -> None:
    """Old rows of it are taken up again in the same page, without a vacuum."""
    term = journal.take()
    for _ in range(500):
        journal.lease.renew(term, LONG_SECONDS, "a:1")
    ((size,),) = journal.execute("SELECT pg_relation_size('titan_journal.lease')")
    assert size <= 4 * 8192


def test_a_deadline_is_earlier_than_the_lease_by_a_margin() -> None:
    deadline = Deadline.of(1_000, 8)
    assert deadline.margin_seconds == 0.8
    assert deadline.holds(1_000)
    assert deadline.holds(1_000 + 7_199_999_999)
    assert not deadline.holds(1_000 + 7_200_000_000)
    assert deadline.seconds_left(1_000 + 7_000_000_000) == pytest.approx(0.2)
    assert deadline.seconds_left(10**12) == 0
    assert Deadline.of(0, 3).margin_seconds == 0.5


@given(st.integers(0, 2**62), st.floats(0.01, 1e6), st.integers(0, 2**62))
def test_no_deadline_holds_as_long_as_its_lease(asked: int, seconds: float, now: int) -> None:
    deadline = Deadline.of(asked, seconds)
    assert deadline.ends_ns < asked + seconds * 1e9
    assert deadline.holds(now) == (deadline.seconds_left(now) > 0)
    assert deadline.holds(asked)
