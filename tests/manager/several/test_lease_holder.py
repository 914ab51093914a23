"""The hold on the lease: what its holder believes never outlasts what the database grants."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.manager.harness import DEADLINE_SECONDS
from titan.journal.errors import Deposed, JournalRefused, JournalUnavailable
from titan.journal.lease import Lease
from titan.manager.several.lease_holder import STUCK_SECONDS, LeaseHolder

SECONDS: Final = 8.0
ADDRESS: Final = "127.0.0.1:50051"


class Time:
    """One clock for both sides, which goes on when it is told to."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ns

    def pass_seconds(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


class Table:
    """The lease as the database has it; a call may take time, and fail before or after its work."""

    def __init__(self, time: Time) -> None:
        self._time = time
        self.term = 0
        self.holder = ""
        self.expires_ns = 0
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self.renewals = 0
        self.was_renewed = threading.Event()

    def read(self) -> Lease:
        left = max(0.0, (self.expires_ns - self._time()) / 1e9)
        return Lease(self.term, self.holder, ADDRESS if self.holder else "", left)

    def try_take(self, holder: str, address: str, seconds: float) -> int | None:
        assert address
        self.before()
        if self.expires_ns > self._time():
            return None
        self.term += 1
        self.holder, self.expires_ns = holder, self._time() + round(seconds * 1e9)
        self.after()
        return self.term

    def renew(self, term: int, seconds: float, address: str) -> bool:
        assert address
        self.renewals += 1
        self.was_renewed.set()
        self.before()
        if self.term != term:
            return False
        self.expires_ns = self._time() + round(seconds * 1e9)
        self.after()
        return True

    def release(self, term: int) -> None:
        self.before()
        if self.term == term:
            self.expires_ns, self.holder = 0, ""


def unavailable() -> None:
    raise JournalUnavailable("it is to be away")


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def table(time: Time) -> Table:
    return Table(time)


@pytest.fixture
def holder(table: Table, time: Time) -> Iterator[LeaseHolder]:
    made = make_holder(table, time)
    yield made
    made.give_up()


def make_holder(
    table: Table, time: Time, seconds: float = SECONDS, address: str = ADDRESS
) -> LeaseHolder:
    return LeaseHolder(table, seconds=seconds, address=address, clock_ns=time)


def test_one_takes_it_and_the_other_waits(table: Table, time: Time, holder: LeaseHolder) -> None:
    other = make_holder(table, time, address="127.0.0.1:50052")
    assert holder.take()
    assert holder.leads()
    assert (holder.term, holder.leader) == (1, ADDRESS)
    assert not other.take()
    other.look()
    assert not other.leads()
    assert (other.term, other.leader) == (1, ADDRESS)
    assert other.is_free_in_seconds == SECONDS
    assert other.seconds_left == 0


def test_it_stops_leading_before_another_one_can_take_it(
    table: Table, time: Time, holder: LeaseHolder
) -> None:
    other = make_holder(table, time)
    assert holder.take()
    while holder.leads():
        assert not other.take()
        time.pass_seconds(0.1)
    # There is time between the two.
    assert not other.take()
    assert holder.seconds_left == 0
    time.pass_seconds(SECONDS)
    assert other.take()
    assert other.term == 2


def test_the_deadline_is_from_before_the_question(table: Table, time: Time) -> None:
    """However long the answer takes, another one can't lead before it."""
    holder = make_holder(table, time)
    table.after = lambda: time.pass_seconds(SECONDS)
    assert holder.take()
    assert not holder.leads()


def test_what_was_taken_without_an_answer_is_waited_out(
    table: Table, time: Time, holder: LeaseHolder
) -> None:
    table.after = unavailable
    with pytest.raises(JournalUnavailable):
        holder.take()
    assert not holder.leads()
    table.after = lambda: None
    assert not holder.take()
    assert not holder.leads()
    time.pass_seconds(SECONDS)
    assert holder.take()
    assert holder.term == 2


def test_two_managers_with_one_address_are_told_so(
    table: Table, time: Time, holder: LeaseHolder, caplog: pytest.LogCaptureFixture
) -> None:
    other = make_holder(table, time)
    assert holder.take()
    for _ in range(3):
        time.pass_seconds(1)
        other.look()
    told = f"another manager leads under the address of this one, {ADDRESS}:"
    # So far it may be one that was killed, and started again as this one.
    assert told not in caplog.text
    for _ in range(2):
        assert table.renew(holder.term, SECONDS, ADDRESS)
        other.look()
        time.pass_seconds(1)
    # Once. A lease of a test before may be told of, too.
    assert caplog.text.count(told) == 1


def test_one_given_up_does_not_lead_whatever_the_database_says(
    table: Table, holder: LeaseHolder
) -> None:
    assert holder.take()
    holder.give_up()
    assert not holder.leads()
    assert table.read().seconds_left > 0


class Lost:
    """Hears why a lease was lost."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self._was_told = threading.Event()

    def __call__(self, error: BaseException) -> None:
        self.errors.append(error)
        self._was_told.set()

    def wait(self) -> BaseException:
        assert self._was_told.wait(DEADLINE_SECONDS)
        return self.errors[0]


# The thread that renews waits by the real clock: a short lease, so that it does so often.
SHORT_SECONDS: Final = 0.03


def test_one_that_leads_no_more_does_not_send_callers_to_itself(
    time: Time, holder: LeaseHolder
) -> None:
    assert holder.take()
    assert holder.leader == ADDRESS
    time.pass_seconds(SECONDS)
    assert not holder.leads()
    assert holder.leader == ""


def wait_for_renewal(table: Table) -> None:
    """One begins."""
    table.was_renewed.clear()
    assert table.was_renewed.wait(DEADLINE_SECONDS)


def wait_until_renewed(table: Table) -> None:
    """One has begun and is over."""
    # The first may have looked at the clock before; when the third begins the second is over.
    for _ in range(3):
        wait_for_renewal(table)


def test_it_is_renewed_as_long_as_it_is_kept(table: Table, time: Time) -> None:
    holder = make_holder(table, time, SHORT_SECONDS)
    lost = Lost()
    assert holder.take()
    holder.keep(lost)
    for _ in range(3):
        time.pass_seconds(SHORT_SECONDS)
        wait_until_renewed(table)
        assert holder.leads()
    holder.let_go()
    assert not holder.leads()
    assert table.read().seconds_left == 0
    assert not lost.errors


def test_another_term_ends_it(table: Table, time: Time) -> None:
    holder = make_holder(table, time, SHORT_SECONDS)
    lost = Lost()
    assert holder.take()
    holder.keep(lost)
    table.term += 1
    assert isinstance(lost.wait(), Deposed)


def test_a_database_away_for_a_moment_ends_nothing(table: Table, time: Time) -> None:
    holder = make_holder(table, time, SHORT_SECONDS)
    lost = Lost()
    assert holder.take()
    holder.keep(lost)
    table.before = unavailable
    wait_for_renewal(table)
    # It lapses meanwhile: nothing leaves this manager, and it is its own again afterwards.
    time.pass_seconds(SHORT_SECONDS)
    assert not holder.leads()
    table.before = lambda: None
    wait_until_renewed(table)
    assert holder.leads()
    assert not lost.errors
    holder.give_up()


def test_a_database_that_stays_away_ends_it(table: Table, time: Time) -> None:
    holder = make_holder(table, time, SHORT_SECONDS)
    lost = Lost()
    assert holder.take()
    table.before = unavailable
    time.pass_seconds(3 * SHORT_SECONDS)
    holder.keep(lost)
    assert isinstance(lost.wait(), JournalUnavailable)


def refused() -> None:
    raise JournalRefused("the password is to be wrong")


def test_a_database_that_refuses_for_a_moment_ends_nothing(table: Table, time: Time) -> None:
    """As one that is asked in the middle of a failover, or of a change of its passwords."""
    holder = make_holder(table, time, SHORT_SECONDS)
    lost = Lost()
    assert holder.take()
    holder.keep(lost)
    table.before = refused
    wait_for_renewal(table)
    wait_for_renewal(table)
    table.before = lambda: None
    time.pass_seconds(SHORT_SECONDS)
    wait_until_renewed(table)
    assert holder.leads()
    assert not lost.errors
    holder.give_up()


def test_a_database_that_goes_on_refusing_ends_it(table: Table, time: Time) -> None:
    """A manager that neither leads nor is told that it does not would answer nobody for ever."""
    holder = make_holder(table, time, SHORT_SECONDS)
    lost = Lost()
    assert holder.take()
    table.before = refused
    time.pass_seconds(3 * SHORT_SECONDS)
    holder.keep(lost)
    assert isinstance(lost.wait(), JournalRefused)
    # Nothing is raised.
    holder.let_go()


def test_whatever_else_goes_wrong_with_a_renewal_ends_it(table: Table, time: Time) -> None:
    def fail() -> None:
        raise OSError(24, "too many files")

    holder = make_holder(table, time, SHORT_SECONDS)
    lost = Lost()
    assert holder.take()
    table.before = fail
    holder.keep(lost)
    assert isinstance(lost.wait(), OSError)
    holder.give_up()


def test_one_that_was_taken_and_not_kept_is_given_back(table: Table, holder: LeaseHolder) -> None:
    """As by a manager that is stopped while it takes over."""
    assert holder.take()
    holder.let_go()
    assert not holder.leads()
    assert table.read().seconds_left == 0


def test_one_that_is_held_by_another_is_not_given_back(
    table: Table, time: Time, holder: LeaseHolder
) -> None:
    other = make_holder(table, time, address="127.0.0.1:50052")
    assert other.take()
    holder.look()
    holder.let_go()
    assert table.read().seconds_left == SECONDS


def test_a_manager_that_is_stuck_does_not_keep_it(table: Table, time: Time) -> None:
    holder = make_holder(table, time, SHORT_SECONDS)
    lost = Lost()
    assert holder.take()
    holder.keep(lost)
    time.pass_seconds(STUCK_SECONDS + 1)
    assert isinstance(lost.wait(), Deposed)


def test_one_that_turns_keeps_it(table: Table, time: Time) -> None:
    holder = make_holder(table, time, SHORT_SECONDS)
    lost = Lost()
    assert holder.take()
    holder.keep(lost)
    for _ in range(4):
        time.pass_seconds(STUCK_SECONDS / 2)
        holder.note_turn()
        wait_for_renewal(table)
    assert not lost.errors
    holder.give_up()


def test_a_renewal_under_way_does_not_bring_back_what_was_given_up(
    table: Table, time: Time
) -> None:
    holder = make_holder(table, time, SHORT_SECONDS)
    assert holder.take()
    table.after = holder.give_up
    holder.keep(Lost())
    # There is one, which may have begun already.
    assert table.was_renewed.wait(DEADLINE_SECONDS)
    holder.let_go()
    assert not holder.leads()
