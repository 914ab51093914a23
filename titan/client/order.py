"""Jobs that wait for each other: in which order they can start, or that none can. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from titan.errors import InvalidJob

# Of a circle so many are named.
_NAMED: Final = 10


def in_order(names: Sequence[str], waits_for: Sequence[Sequence[int]]) -> list[int]:
    """The places, each behind those that it waits for, and otherwise as they came.

    Raises InvalidJob that names jobs which wait for each other.
    """
    from graphlib import CycleError, TopologicalSorter  # noqa: PLC0415 - most jobs wait for none

    sorter: TopologicalSorter[int] = TopologicalSorter(dict(enumerate(waits_for)))
    try:
        sorter.prepare()
    except CycleError as error:
        raise InvalidJob(_circle_sentence(names, error.args[1])) from error
    ordered: list[int] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        ordered += ready
        sorter.done(*ready)
    return ordered


def check_order(names: Sequence[str], waits_for: Sequence[Sequence[int]]) -> None:
    """Raises InvalidJob that names jobs which wait for each other."""
    if any(waits_for):
        in_order(names, waits_for)


def _circle_sentence(names: Sequence[str], circle: Sequence[int]) -> str:
    """Of places that each have to come before the next, the first and the last the same."""
    if len(circle) == 2:
        return f"job {names[circle[0]]} waits for itself: it could never start"
    waiting = [names[place] for place in reversed(circle)]
    if len(waiting) > _NAMED:
        waiting = [*waiting[: _NAMED - 1], "…", waiting[-1]]
    words = " waits for ".join(waiting)
    return f"jobs that wait for each other could never start: {words}"
