"""What a measure gives: numbers of several rounds, their floor's, and the ratio of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, median
from typing import Any, Final, NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """How a number grows with another: what is drawn of a part. Labels name their units."""

    name: str
    """Of the picture's file, after that of the numbers."""
    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    line: Sequence[tuple[float, float]] = ()
    """Fitted, and drawn beyond what was measured."""
    line_label: str = ""
    bound: float | None = None
    """What y must keep to."""
    bound_label: str = ""
    logarithmic: bool = False
    """x grows by factors; it may be 0."""


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
    details: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()
    """What has to be known of the numbers: what was left out, how limits were kept."""
    curve: Curve | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What another run calls the same row."""
        return self.part, self.what, self.floor

    def as_json(self) -> dict[str, Any]:
        """For the file: every round, and the medians."""
        medians = {
            "value": median(self.values),
            "floor_value": median(self.floors),
            "ratio": median(self.ratios),
        }
        return asdict(self) | medians


NO_DETAILS: Final[Mapping[str, float]] = {}
NOTHING_BEFORE: Final[Mapping[tuple[str, str, str], str]] = {}


class Compared(NamedTuple):
    """What stood beside a measure, and the rounds' ratios to it."""

    floors: tuple[float, ...]
    ratios: tuple[float, ...]


def alternate(
    rounds: int, measure: Callable[[], float], floor: Callable[[], float]
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Floor, measure, floor, measure, …, floor: the values, the floors, and the rounds' ratios."""
    values, (compared,) = alternate_with(rounds, measure, [floor])
    return values, *compared


def alternate_with(
    rounds: int, measure: Callable[[], float], others: Sequence[Callable[[], float]]
) -> tuple[tuple[float, ...], list[Compared]]:
    """All the others, measure, all the others, …: the values, and what they stand beside.

    A machine that others use too gets faster and slower within a minute. What a round is
    compared with is the mean of its two neighbours.
    """
    found = [[each()] for each in others]
    values: list[float] = []
    for _ in range(rounds):
        values.append(measure())
        for numbers, each in zip(found, others, strict=True):
            numbers.append(each())
    return tuple(values), [Compared(tuple(each), ratios(values, each)) for each in found]


def against(bound: float, values: Sequence[float]) -> Compared:
    """Values that stand beside a number, which is the same in each round."""
    return Compared((bound,), tuple(value / bound for value in values))


def compared_rows(
    others: Sequence[tuple[str, str, Compared]],
    *,
    part: str,
    what: str,
    unit: str,
    values: tuple[float, ...],
    details: Mapping[str, float] = NO_DETAILS,
    notes: Sequence[str] = (),
) -> list[Result]:
    """A row for each (floor, must, numbers) that the same values stand beside.

    What else is to be said of them is said of the first.
    """
    return [
        Result(
            part=part,
            what=what,
            unit=unit,
            values=values,
            floor=floor,
            floors=numbers.floors,
            ratios=numbers.ratios,
            must=must,
            details={} if number else details,
            notes=() if number else notes,
        )
        for number, (floor, must, numbers) in enumerate(others)
    ]


def ratios(values: Sequence[float], floors: Sequence[float]) -> tuple[float, ...]:
    """Of each value to the mean of the floors before and after it."""
    return tuple(value / fmean(floors[number : number + 2]) for number, value in enumerate(values))


def table(
    results: Sequence[Result], before: Mapping[tuple[str, str, str], str] = NOTHING_BEFORE
) -> str:
    """The rows for people, with what else is to be said of each below it.

    `before` is what an earlier run said of a row.
    """
    head = ("", "what", "measured", "floor", "ratio", "lowest – highest", "must", "before")
    rows = [head, *(_row(each, before.get(each.key, "")) for each in results)]
    kept = [column for column in range(len(head)) if any(row[column] for row in rows[1:])]
    widths = {column: max(len(row[column]) for row in rows) for column in kept}
    lines = ["  ".join(row[column].ljust(width) for column, width in widths.items()).rstrip()
             for row in rows]  # fmt: skip
    floors = dict.fromkeys(f"{each.part}  floor: {each.floor}" for each in results)
    return "\n".join([*lines, "", *floors, *_notes(results)])


def said_before(report: Mapping[str, Any]) -> dict[tuple[str, str, str], str]:
    """What a run says of its rows, for the table of a later one; of what it wrote as JSON."""
    return {
        (each["part"], each["what"], each["floor"]): _said(
            each["value"], each["unit"], each["ratio"]
        )
        for each in report["results"]
    }


def _said(value: float, unit: str, ratio: float) -> str:
    return f"{_number(value)} {unit} ({ratio:.3g})"


def _notes(results: Sequence[Result]) -> list[str]:
    lines = []
    for each in results:
        if each.details:
            lines.append(f"{each.part}  {each.what}: {_details(each.details)}")
        lines += [f"{each.part}  {each.what}: {note}" for note in each.notes]
    return lines


def _row(result: Result, before: str) -> tuple[str, ...]:
    return (
        result.part,
        result.what,
        f"{_number(median(result.values))} {result.unit}",
        f"{_number(median(result.floors))} {result.unit}",
        f"{median(result.ratios):.3g}",
        f"{min(result.ratios):.3g} – {max(result.ratios):.3g}",
        result.must,
        before,
    )


def _details(details: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in details.items())


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
