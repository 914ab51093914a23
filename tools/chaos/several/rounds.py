"""What goes wrong in which round: a script drawn from a seed. Pure: the same seed, the same script.

The kinds come from a shuffled deck, each of them once before any comes again. Some rounds have two
faults at once, of which neither is on what the other one is on.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

# How often each kind is in the deck, by what it is on. A leader is the one that leads as it begins.
KINDS: Final = {
    "leader": {"kill-leader": 5, "stop-leader": 5, "cut-postgresql": 5, "step-down": 5},
    "workers": {"cut-workers": 4},
    "clients": {"cut-clients": 4},
    "postgresql": {
        "kill-postgresql": 4,
        "restart-postgresql": 3,
        "fail-over": 5,
        "stop-synchronous": 3,
    },
    "standby": {"kill-standby": 3},
}
DOUBLE: Final = "double"
DOUBLES: Final = 4
NAMES: Final = (*(kind for kinds in KINDS.values() for kind in kinds), DOUBLE)

# How lines are cut: bytes wait until they are well, or are forgotten and connections break then.
MANNERS: Final = ("freeze", "swallow")


class Fault(NamedTuple):
    """One thing that goes wrong, from its beginning until it is put right."""

    at_seconds: float
    kind: str
    seconds: float
    manner: str
    """Of lines that are cut. Of a stopped synchronous standby "cancel": who waits is cancelled."""


class Round(NamedTuple):
    """Its faults in order, one or two."""

    number: int
    name: str
    """Of the kind in the report."""
    faults: tuple[Fault, ...]


def draw_rounds(
    seed: int,
    *,
    count: int,
    lease_seconds: float,
    timeout_seconds: float,
    kinds: Sequence[str] = NAMES,
) -> list[Round]:
    """So many rounds, of these kinds only. `timeout_seconds`: of heartbeats."""
    chance = random.Random(f"rounds {seed}")
    deck = _deck(chance, kinds)
    rounds = []
    for number in range(1, count + 1):
        name = next(deck)
        drawn = _draw_two(chance) if name == DOUBLE else [name]
        faults = []
        at_seconds = 0.0
        for kind in drawn:
            seconds = _draw_seconds(chance, kind, lease_seconds, timeout_seconds)
            manner = chance.choice(MANNERS)
            if kind == "stop-synchronous":
                manner = chance.choice(["wait", "cancel"])
            faults.append(Fault(round(at_seconds, 3), kind, round(seconds, 3), manner))
            at_seconds += chance.uniform(0, 1.5 * lease_seconds)
        rounds.append(Round(number, name, tuple(faults)))
    return rounds


def _deck(chance: random.Random, wanted: Sequence[str]) -> Iterator[str]:
    """Kinds for ever."""
    counts = {kind: count for kinds in KINDS.values() for kind, count in kinds.items()}
    counts[DOUBLE] = DOUBLES
    cards = [kind for kind, count in counts.items() if kind in wanted for _ in range(count)]
    once = [*dict.fromkeys(cards)]
    yield from chance.sample(once, len(once))
    rest = [*cards]
    for kind in once:
        rest.remove(kind)
    while True:
        yield from chance.sample(rest, len(rest))
        rest = cards


def _draw_two(chance: random.Random) -> list[str]:
    return [chance.choice([*KINDS[on]]) for on in chance.sample([*KINDS], 2)]


def _draw_seconds(
    chance: random.Random, kind: str, lease_seconds: float, timeout_seconds: float
) -> float:
    """From its beginning until it is put right, or whoever was killed is started again."""
    is_short = chance.random() < 0.3
    match kind:
        case "stop-leader" | "cut-postgresql" | "stop-synchronous":
            if is_short:
                return chance.uniform(0.2, lease_seconds / 2)
            return lease_seconds + chance.uniform(1, 4)
        case "cut-workers":
            if is_short:
                return chance.uniform(0.5, timeout_seconds / 2)
            return timeout_seconds + chance.uniform(1, 3)
        case "cut-clients" | "kill-postgresql" | "kill-leader" | "kill-standby" | "fail-over":
            return chance.uniform(0.5, 4)
        case _:
            return 0.0
