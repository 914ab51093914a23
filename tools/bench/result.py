"""What a measure gives: numbers of several rounds, their floor's, and the ratio of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, median
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One row of the table. A ratio is that of a round to the floors right before and after it."""

    part: str
    what: str
    unit: str
    values: tuple[float, ...]
    floor: str
    floors: tuple[float, ...]
    ratios: tuple[float, ...]
    must: str
    goal: str
    details: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For the file: every round, and the medians."""
        medians = {
            "value": median(self.values),
            "floor_value": median(self.floors),
            "ratio": median(self.ratios),
        }
        return asdict(self) | medians


def alternate(
    rounds: int, measure: Callable[[], float], floor: Callable[[], float]
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Floor, measure, floor, measure, …, floor: the values, the floors, and the rounds' ratios.

    A machine that others use too gets faster and slower within a minute. What a round is
    compared with is the mean of its two neighbours.
    """
    floors = [floor()]
    values: list[float] = []
    for _ in range(rounds):
        values.append(measure())
        floors.append(floor())
    return tuple(values), tuple(floors), ratios(values, floors)


def ratios(values: Sequence[float], floors: Sequence[float]) -> tuple[float, ...]:
    """Of each value to the mean of the floors before and after it."""
    return tuple(value / fmean(floors[number : number + 2]) for number, value in enumerate(values))


def table(results: Sequence[Result]) -> str:
    """The rows for people, with what else is to be said of each below it."""
    head = ("", "what", "measured", "floor", "ratio", "lowest – highest", "must", "goal")
    rows = [head, *map(_row, results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
             for row in rows]  # fmt: skip
    notes = [f"{each.part}  {each.what}: {_details(each.details)}" for each in results
             if each.details]  # fmt: skip
    floors = dict.fromkeys(f"{each.part}  floor: {each.floor}" for each in results)
    return "\n".join([*lines, "", *floors, *notes])


def _row(result: Result) -> tuple[str, ...]:
    return (
        result.part,
        result.what,
        f"{_number(median(result.values))} {result.unit}",
        f"{_number(median(result.floors))} {result.unit}",
        f"{median(result.ratios):.3g}",
        f"{min(result.ratios):.3g} – {max(result.ratios):.3g}",
        result.must,
        result.goal,
    )


def _details(details: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in details.items())


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
