"""What is to go wrong, and when: a script drawn from a seed. Pure: the same seed, the same script.

Two faults never share a resource, which is a process, a worker's lines or the disk; on different
ones they fall together as they like. The kinds come from a shuffled deck, so that a run of a
minute has seen each of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final, NamedTuple

# How often each kind is in the deck.
MANAGER_KINDS: Final = {"kill-manager": 3, "term-manager": 1, "stop-manager": 2}
WORKER_KINDS: Final = {
    "kill-agent": 3,
    "term-agent": 1,
    "stop-agent": 3,
    "kill-host": 3,
    "stop-host": 2,
    "kill-both": 2,
    "kill-worker": 3,
    "leave-worker": 1,
}
# Of the lines between a worker and the manager, or between the clients and the manager.
LINE_KINDS: Final = {
    "refuse": 2,
    "freeze": 3,
    "freeze-to-manager": 2,
    "freeze-from-manager": 2,
    "swallow": 2,
    "delay": 3,
    "throttle": 2,
    "drop": 3,
}
# All lines of the manager at once.
NETWORK_KINDS: Final = {"isolate-manager": 1}
DISK_KINDS: Final = {"fill-disk": 2}

GAP_SECONDS: Final = 1.5
# Before the first one the load has begun.
LEAD_SECONDS: Final = 2.0


class Fault(NamedTuple):
    """One thing that goes wrong, from its beginning until it is put right."""

    at_seconds: float
    kind: str
    target: str
    seconds: float


def draw_faults(
    seed: int, *, seconds: float, workers: list[str], timeout_seconds: float, has_disk: bool
) -> list[Fault]:
    """The script for a run of so many seconds; all is put right when they are over."""
    chance = random.Random(f"faults {seed}")
    deck = _deck(chance, has_disk)
    busy_until: dict[str, float] = {}
    faults = []
    now = LEAD_SECONDS
    while now < seconds - 1:
        kind = next(deck)
        targets = [each for each in _targets(kind, workers) if busy_until.get(each, 0) <= now]
        if targets:
            target = chance.choice(targets)
            length = min(_draw_seconds(chance, kind, timeout_seconds), seconds - now)
            faults.append(Fault(round(now, 3), kind, target, round(length, 3)))
            # What was killed gets a moment to be there again.
            busy_until[target] = now + length + 1
        now += chance.expovariate(1 / GAP_SECONDS)
    return faults


def _deck(chance: random.Random, has_disk: bool) -> Iterator[str]:
    """Kinds for ever."""
    groups = [MANAGER_KINDS, WORKER_KINDS, LINE_KINDS, NETWORK_KINDS]
    if has_disk:
        groups.append(DISK_KINDS)
    cards = [kind for group in groups for kind, count in group.items() for _ in range(count)]
    # Each kind once, before any comes again.
    yield from chance.sample([*dict.fromkeys(cards)], len({*cards}))
    while True:
        yield from chance.sample(cards, len(cards))


def _targets(kind: str, workers: list[str]) -> list[str]:
    if kind in MANAGER_KINDS:
        return ["manager"]
    if kind in WORKER_KINDS:
        return workers
    if kind in LINE_KINDS:
        return [f"{name}.lines" for name in (*workers, "clients")]
    return ["network"] if kind in NETWORK_KINDS else ["disk"]


def _draw_seconds(chance: random.Random, kind: str, timeout_seconds: float) -> float:
    """Either too short to be taken for a loss, or clearly longer; without a manager all wait."""
    if kind in ("drop", "kill-host"):
        return 0.0
    is_short = chance.random() < (0.8 if kind in MANAGER_KINDS | NETWORK_KINDS else 0.5)
    if is_short:
        return chance.uniform(0.2, timeout_seconds / 2)
    return chance.uniform(timeout_seconds, 2.5 * timeout_seconds)
