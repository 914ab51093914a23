"""What the kernel is told of a simulation: the order of the queue, the policy, nothing kept."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from titan.manager.kernel import Settings

# TODO: all of this goes once Settings has `order` and `lookahead`; the names of the orders are the
# scheduler's then, and a task may be told as having run for as long as it did: of a class that
# proved short tasks are sent ahead of their turn, which is to be had only by not asking for it.
_FIELDS: Final = frozenset(each.name for each in dataclasses.fields(Settings))
ORDERS: Final = ("easy", "fcfs", "skip", "easy-sjbf") if "order" in _FIELDS else ("skip",)
DEFAULT_ORDER: Final = ORDERS[0]
TOLD_RUN_US_MIN: Final = 0 if "lookahead" in _FIELDS else 1_000_000


def kernel_settings(*, order: str, policy: str) -> Settings:
    """Nothing is sent ahead of a slot, and jobs that ended are forgotten with the next tick."""
    assert order in ORDERS, f"the scheduler has no order {order}"
    wanted: dict[str, Any] = {
        "policy": policy,
        "order": order,
        "lookahead": False,
        "forget_over": 0,
    }
    return Settings(**{name: value for name, value in wanted.items() if name in _FIELDS})
