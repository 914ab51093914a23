"""Which devices the task host gives to whom."""

from __future__ import annotations

from tests.worker.books import OK, cancel, emitted, recall, spawned, wish
from tests.worker.builders import batch, key, launch
from titan.model import HeldState, ReportKind, StopMode
from titan.worker.host.actions import Action, Left, Spawn
from titan.worker.host.bookkeeping import Bookkeeping
from titan.worker.messages import DeviceIds, Exit


def devices_of(actions: list[Action]) -> dict[int, DeviceIds]:
    """What the attempts that are to be spawned get, by their indexes."""
    return {each.key.index: each.devices for each in actions if isinstance(each, Spawn)}


def with_gpus(*ids: str) -> Bookkeeping:
    book = Bookkeeping()
    assert book.offer_devices((("gpu", ids),)) == []
    return book


ONE_GPU = (("gpu", 1),)


def test_a_start_says_which_devices_the_attempt_has_until_it_ends() -> None:
    book = with_gpus("0", "1")
    todo = batch(launch(named=ONE_GPU), indexes=range(3), slots=2)
    assert devices_of(book.start(todo)) == {0: (("gpu", ("0",)),), 1: (("gpu", ("1",)),)}
    book.started(key(index=1), 101, 7, 1_000)
    assert devices_of(book.exited(key(index=1), OK, 2_000)) == {2: (("gpu", ("1",)),)}
    assert devices_of(book.not_launched(key(), "no", 2_000)) == {}
    assert devices_of(book.start(batch(launch(named=ONE_GPU, job_id=2)))) == {0: (("gpu", ("0",)),)}


def test_who_asks_for_none_is_told_so() -> None:
    assert devices_of(with_gpus("0").start(batch(launch()))) == {0: (("gpu", ()),)}


def test_no_two_have_a_device_whatever_the_manager_allows_and_the_first_to_wait_gets_it() -> None:
    book = with_gpus("0")
    first, second = launch(named=ONE_GPU), launch(named=ONE_GPU, class_id=2, job_id=2)
    assert spawned(book.start(batch(first, indexes=range(3)))) == [0]
    assert spawned(book.start(batch(second, indexes=[7]))) == []
    assert [held.state for held in book.live()] == [HeldState.QUEUED] * 4
    # What needs none need not wait.
    other = launch(job_id=3, class_id=3)
    assert spawned(book.start(batch(other))) == [0]
    book.started(key(), 100, 7, 1_000)
    assert devices_of(book.exited(key(), OK, 2_000)) == {1: (("gpu", ("0",)),)}
    # The first class has waited for longer.
    assert spawned(book.not_launched(key(index=1), "no", 2_000)) == [2]
    assert spawned(book.not_launched(key(index=2), "no", 2_000)) == [7]


def test_who_waits_for_a_device_comes_before_those_of_the_class_that_had_it() -> None:
    book = with_gpus("0")
    first, second = launch(named=ONE_GPU), launch(named=ONE_GPU, class_id=2, job_id=2)
    assert spawned(book.start(batch(first, indexes=range(3), slots=1))) == [0]
    assert spawned(book.start(batch(second, indexes=[7]))) == []
    assert spawned(book.not_launched(key(), "no", 2_000)) == [7]
    assert spawned(book.not_launched(key(2, 7), "no", 2_000)) == [1]


def test_more_devices_let_those_start_that_wait_for_some() -> None:
    book = with_gpus("0")
    book.start(batch(launch(named=ONE_GPU), indexes=range(3)))
    assert devices_of(book.offer_devices((("gpu", ("5", "6")),))) == {
        1: (("gpu", ("5",)),),
        2: (("gpu", ("6",)),),
    }


def test_who_waits_for_a_device_can_be_cancelled_and_recalled() -> None:
    book = with_gpus("0")
    book.start(batch(launch(named=ONE_GPU), indexes=range(4)))
    reports = emitted(book.stop([*cancel(1), *recall(2), *wish(StopMode.SUSPEND, 3)], 2_000))
    assert [report.kind for report in reports] == [
        *(ReportKind.ENDED, ReportKind.RECALLED, ReportKind.RECALLED)
    ]
    book.check_invariants()
    assert spawned(book.not_launched(key(), "no", 2_000)) == []
    assert book.leave(0) == [Left()]


def test_what_is_suspended_keeps_its_devices() -> None:
    book = with_gpus("0")
    book.start(batch(launch(named=ONE_GPU), indexes=range(2)))
    book.started(key(), 100, 7, 1_000)
    assert spawned(book.stop(wish(StopMode.SUSPEND), 2_000)) == []
    assert spawned(book.exited(key(), Exit(None, 9), 2_000)) == [1]
