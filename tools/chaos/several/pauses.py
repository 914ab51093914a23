"""How long a fault kept users waiting: from when it struck to the next submit that was answered.

A user notices a fault by that, and by nothing else: calls wait, and none of them fails.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from statistics import median
from typing import Final, NamedTuple

from tools.chaos.evidence import Event
from tools.chaos.several.rounds import NAMES

# A lease has to run out, and then there are so many seconds more to be ready.
TAKEOVER_SECONDS: Final = 2.0
STEP_DOWN_SECONDS: Final = 1.0

# Kinds of which a user notices no more than a step-down.
_HANDED_OVER: Final = ("step-down", "kill-standby", "cut-workers")


class Outage(NamedTuple):
    """What a round's faults were to a user, in Unix seconds."""

    sent_after: float
    """Submits sent earlier may have been answered by who was still there."""
    since: float
    """When it struck, or where nobody can be served before that, when it was over."""


class Pause(NamedTuple):
    """One round's."""

    round_number: int
    name: str
    seconds: float


def find_answer(users: Iterable[Event], outage: Outage) -> float | None:
    """When the first submit was answered that counts; None: none has been yet.

    `users`: lines of all users' records, each user's in their order.
    """
    sent: dict[str, float] = {}
    answers = []
    for line in users:
        if line["what"] == "submit":
            sent[line["request_id"]] = line["time"]
        elif line["what"] == "accepted":
            at = sent.get(line["request_id"], -math.inf)
            if at >= outage.sent_after and line["time"] >= outage.since:
                answers.append(line["time"])
    return min(answers, default=None)


def find_failed_calls(users: Iterable[Event]) -> Iterator[str]:
    """Calls that ended with an error though somebody would have answered in time."""
    for line in users:
        if line["what"] == "failed":
            yield f"a call of a user failed: {line['error']}"


def bound_seconds(name: str, lease_seconds: float, grace_seconds: float) -> float:
    """What a pause of that kind may last."""
    if name in _HANDED_OVER:
        return STEP_DOWN_SECONDS + grace_seconds
    return lease_seconds + TAKEOVER_SECONDS + grace_seconds


def find_slow(pauses: Iterable[Pause], lease_seconds: float, grace_seconds: float) -> Iterator[str]:
    """Those that lasted longer, as sentences."""
    for each in pauses:
        bound = bound_seconds(each.name, lease_seconds, grace_seconds)
        if each.seconds > bound:
            yield (
                f"round {each.round_number}: {each.name} kept users waiting for "
                f"{each.seconds:.2f} s, {bound:g} s are allowed"
            )


def tell_pauses(
    pauses: Iterable[Pause], lease_seconds: float, grace_seconds: float
) -> Iterator[str]:
    """A table, a line for each kind."""
    by_name = defaultdict(list)
    for each in pauses:
        by_name[each.name].append(each.seconds)
    heads = " ".join(f"{each:>6}" for each in ("rounds", "min", "median", "p90", "max"))
    yield f"{'pause in seconds':20} {heads} {'allowed':>8}"
    for name in NAMES:
        if name in by_name:
            seconds = sorted(by_name[name])
            # The smallest that nine of ten do not exceed.
            p90 = seconds[math.ceil(0.9 * len(seconds)) - 1]
            shown = (seconds[0], median(seconds), p90, seconds[-1])
            columns = " ".join(f"{each:6.2f}" for each in shown)
            bound = bound_seconds(name, lease_seconds, grace_seconds)
            yield f"{name:20} {len(seconds):6} {columns} {bound:8.2f}"
