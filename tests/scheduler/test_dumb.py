"""The scheduler decides as one that looks at every task and every worker each time anew.

In several passes on one kernel, since what it keeps from pass to pass may go stale; and a kernel
that has seen none of it before decides the same.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.manager.builders import SECOND_US, Rig
from tests.scheduler.dumb import DumbScheduler, Rules
from tests.scheduler.stories import Story, copy_of, fresh_pass
from titan import events as ev
from titan.scheduling import ORDERS, PLACEMENTS, Scheduling

CHUNKS = 24
STORIES_PER_CHUNK = 10
PASSES = 12


def decisions_of(events: list[ev.Event]) -> list[tuple[Any, ...]]:
    """Events of a pass as the dumb scheduler tells them."""
    told: list[tuple[Any, ...]] = []
    for event in events:
        if isinstance(event, ev.TaskAssigned):
            told.append(("place", event.job_id, event.index, event.worker, event.rule))
        elif isinstance(event, ev.Reserved):
            told.append(("keep", event.worker, event.job_id))
        elif isinstance(event, ev.ReservationLifted):
            told.append(("lift", event.worker))
        else:
            raise AssertionError(f"{event} in a pass")
    return told


def dumb_pass(rig: Rig) -> list[tuple[Any, ...]]:
    """What the pass that is due has to do."""
    settings = rig.settings
    limits = {"": settings.user_cpus_milli} if settings.user_cpus_milli else {}
    rules = Rules(
        settings.policy, settings.order, settings.fair_share, settings.reserve_after_us, limits
    )
    state = copy_of(rig.state)
    return DumbScheduler(state, set(rig.kernel.outboxes), rules, rig.now_us).run()


def compare_pass(rig: Rig) -> list[tuple[Any, ...]]:
    """One pass, compared with both."""
    # What is due by time alone stands in the log before the pass.
    rig.tick()
    rig.kernel.schedule_wanted = True
    expected, fresh = dumb_pass(rig), fresh_pass(rig)
    events = rig.schedule()
    assert decisions_of(events) == expected
    assert events == fresh, "a kernel that saw none of it before decides the same"
    return expected


def settings_of(seed: str, number: int) -> dict[str, Any]:
    """All policies and orders in turn; the rest at random."""
    rng = random.Random(seed)
    return {
        "policy": PLACEMENTS[number % 4],
        "order": ORDERS[number // 4 % 4],
        "fair_share": rng.random() < 0.3,
        "user_cpus_milli": rng.choice([0, 0, 3000]),
        "reserve_after_us": rng.choice([0, 5_000_000, 60_000_000]),
    }


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_passes_decide_as_a_walk_over_single_tasks_would(chunk: int) -> None:
    seen: dict[str, int] = {}
    for number in range(chunk * STORIES_PER_CHUNK, (chunk + 1) * STORIES_PER_CHUNK):
        seed = f"story {number}"
        story = Story(seed, **settings_of(seed, number))
        try:
            for _ in range(story.rng.randint(1, 5)):
                story.join()
            for _ in range(story.rng.randint(4, 16)):
                story.submit()
            for _ in range(PASSES):
                for decision in compare_pass(story.rig):
                    seen[decision[0]] = seen.get(decision[0], 0) + 1
                for _ in range(story.rng.randint(1, 3)):
                    story.happen()
        except Exception as error:
            error.add_note(f"in {seed!r}")
            raise
    assert seen["place"] > 40


@pytest.mark.parametrize("preempt", ["off", "requeue", "suspend"])
@pytest.mark.parametrize("seed", range(8))
def test_with_short_tasks_sent_ahead_and_others_stopped_nothing_known_goes_stale(
    seed: int, preempt: str
) -> None:
    """The dumb scheduler knows nothing of these: here a kernel that saw none of it has to do."""
    name = f"ahead {preempt} {seed}"
    story = Story(name, **settings_of(name, 4 * seed), lookahead=True, preempt=preempt)
    rig = story.rig
    for _ in range(3):
        story.join()
    for _ in range(30):
        story.submit(
            cpus=story.rng.choice([0.5, 1, 2]),
            array=[(0, story.rng.choice([2, 30]))],
            priority=story.rng.choice([0, 0, 1]),
            scheduling=Scheduling(preemptible=story.rng.random() < 0.5),
        )
        rig.tick()
        rig.kernel.schedule_wanted = True
        expected = fresh_pass(rig)
        assert rig.schedule() == expected, name
        story.deliver()
        rig.now_us += story.rng.choice([1000, 3 * SECOND_US])
        end_running(story)
        if story.rng.random() < 0.5:
            story.happen()


def end_running(story: Story) -> None:
    """Some of what runs and does not stand still."""
    state = story.rig.state
    for host in story.hosts:
        for key in host.running:
            job = state.live_jobs.get(key.job_id)
            attempt = job.active.get(key.index) if job is not None else None
            if story.rng.random() < 0.5 and not (attempt is not None and attempt.suspended):
                host.end(key)
        if host.session in story.rig.kernel.sessions:
            host.send_reports()
