"""How slots pass between attempts of a class."""

import pytest

from tests.state.builders import C, F, P, Story
from titan import events as ev
from titan.model import State
from titan.state import IllegalEvent
from titan.state.invariants import check_capacity

# Slot and ahead ----------------------------------------------------------------------------


def ahead_story() -> Story:
    """One slot of one cpu runs 1.0; 1.1, 1.2 and 1.3 wait behind it."""
    story = Story()
    story.worker(1000)
    story.job((0, 6))
    story.assign(1, 0)
    for index in (1, 2, 3):
        story.assign(1, index, ahead=True)
    return story


def ahead_of(story: Story) -> list[int]:
    return [index for _, index in story.state.get_worker(1).classes[1].ahead]


def test_an_ahead_attempt_takes_no_room() -> None:
    story = ahead_story()
    worker = story.state.get_worker(1)
    assert worker.free_cpus_milli == 0
    assert worker.classes[1].slots == 1
    check_capacity(story.state)


@pytest.mark.parametrize("how", [C, F, State.LOST])
def test_an_end_passes_the_slot_to_the_oldest_ahead_in_the_same_event(how: State) -> None:
    story = ahead_story()
    story.start(1, 0)
    story.end(1, 0, how, becomes=P if how is State.LOST else how)
    worker = story.state.get_worker(1)
    assert ahead_of(story) == [2, 3]
    assert [index for _, index in worker.classes[1].unstarted] == [1]
    assert not worker.attempts[1, 1].ahead
    assert worker.free_cpus_milli == 0


def test_a_recalled_slot_attempt_passes_its_slot_too() -> None:
    story = ahead_story()
    story.apply(ev.Recalled(1, 0, 1))
    assert ahead_of(story) == [2, 3]
    assert story.state.get_worker(1).free_cpus_milli == 0


def test_with_nobody_ahead_the_room_is_free_and_the_class_is_gone() -> None:
    story = ahead_story()
    for index in (0, 1, 2, 3):
        story.end(1, index)
    worker = story.state.get_worker(1)
    assert worker.free == worker.capacity
    assert worker.classes == {}


def test_an_ahead_attempt_that_starts_first_swaps_with_the_oldest_unstarted_slot() -> None:
    story = ahead_story()
    story.start(1, 2)
    worker = story.state.get_worker(1)
    assert not worker.attempts[1, 2].ahead
    assert worker.attempts[1, 0].ahead
    assert ahead_of(story) == [0, 1, 3], "what lost its slot goes first again"
    assert worker.free_cpus_milli == 0
    story.end(1, 2)
    assert ahead_of(story) == [1, 3]


def test_an_end_that_tells_the_start_too_swaps_before_it_passes_the_slot() -> None:
    story = ahead_story()
    story.end(1, 3)
    worker = story.state.get_worker(1)
    assert ahead_of(story) == [1, 2]
    assert not worker.attempts[1, 0].ahead
    assert worker.classes[1].slots == 1


def test_an_ahead_attempt_that_runs_beside_a_running_slot_takes_room_of_its_own() -> None:
    story = ahead_story()
    story.start(1, 0)
    story.start(1, 1)
    worker = story.state.get_worker(1)
    assert worker.classes[1].slots == 2
    assert worker.free_cpus_milli == -1000, "what runs, runs"


def test_an_ahead_attempt_that_is_recalled_frees_nothing() -> None:
    story = ahead_story()
    story.apply(ev.RecallRequested(1, 2, 1))
    assert story.state.get_worker(1).attempts[1, 2].recall_requested
    story.apply(ev.Recalled(1, 2, 1))
    assert ahead_of(story) == [1, 3]
    assert story.task_state(1, 2) is P
    assert story.state.get_worker(1).free_cpus_milli == 0


def test_slots_do_not_pass_to_another_class() -> None:
    story = ahead_story()
    story.job(user="grace")
    story.worker(2000, 1)
    story.assign(2, 0)
    story.end(2, 0)
    assert ahead_of(story) == [1, 2, 3]
    assert story.state.get_worker(1).free_cpus_milli == 1000


def test_only_what_has_not_started_can_be_recalled() -> None:
    story = ahead_story()
    story.apply(ev.RecallRequested(1, 0, 1))
    story.start(1, 0)
    with pytest.raises(IllegalEvent, match="not started"):
        story.apply(ev.RecallRequested(1, 0, 1))
