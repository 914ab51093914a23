"""What a repair would do and lose, as plain values and in words. It decides nothing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from titan.waltools.examine import Examination
from titan.waltools.places import Places
from wal.repair import Plan, Step

_PARTS_TOLD: Final = 20


class Loss(NamedTuple):
    """What can still be read of records that go."""

    records: range
    readable: int
    events: dict[str, int]
    """How many of each kind the readable ones hold."""
    jobs_submitted: list[int]
    jobs_ended: list[int]
    """Those with tasks that ended in them."""


@dataclass(slots=True, kw_only=True)
class Proposal:
    """What a repair would do."""

    places: Places
    found: Examination
    plan: Plan
    lost: Loss
    lost_history: Loss
    unfinished: str = ""
    """Where a repair that was stopped put things; empty: there was none."""
    is_undescribed: bool = False
    """Whether titan.json is missing, without which no manager starts."""

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.plan.steps or self.unfinished or self.is_undescribed)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        plan = self.plan
        return {
            "needed": self.is_needed,
            "start": plan.start.lsn if plan.start else None,
            "first_lsn": plan.first_lsn,
            "last_lsn": plan.last_lsn,
            "steps": [
                {
                    "file": step.path,
                    "offset": step.offset,
                    "bytes": step.size_bytes if step.offset is not None else None,
                    "made_of": step.source or None,
                    "why": step.why,
                }
                for step in plan.steps
            ],
            "lost": _loss_json(self.lost),
            "lost_history": _loss_json(self.lost_history),
        }


def _loss_json(loss: Loss) -> dict[str, Any]:
    is_empty = not loss.records
    return {
        "records": len(loss.records),
        "first_lsn": None if is_empty else loss.records[0],
        "last_lsn": None if is_empty else loss.records[-1],
        "readable": loss.readable,
        "events": loss.events,
        "jobs_submitted": loss.jobs_submitted,
        "jobs_with_ends": loss.jobs_ended,
    }


def describe(proposal: Proposal) -> list[str]:
    """The proposal in lines for people."""
    plan, root = proposal.plan, proposal.places.root
    if not proposal.is_needed:
        return [f"Nothing to repair: records {plan.first_lsn} to {plan.last_lsn} are sound."]
    lines = []
    if proposal.unfinished:
        lines.append(
            f"A repair was stopped before its end; it puts things in {proposal.unfinished}."
        )
    lines += _describe_kept(plan)
    if proposal.is_undescribed:
        lines.append("titan.json is missing and is written again.")
    lines += ["To be put aside:"] if plan.steps else []
    lines += [f"  {_describe_step(step, root)}" for step in plan.steps if not step.header]
    lines += [f"To be made: {_describe_step(step, root)}" for step in plan.steps if step.header]
    lines += _describe_loss("Acknowledged and lost", proposal.lost)
    lines += _describe_loss("History that goes, its outcome stays", proposal.lost_history)
    if not (proposal.lost.records or proposal.lost_history.records):
        lines.append("No record is lost.")
    return lines


def _describe_step(step: Step, root: Path) -> str:
    name, source = (_relative(path, root) for path in (step.path, step.source))
    if step.offset is None:
        return f"{name}: {step.why}"
    part = f"{step.size_bytes} bytes from byte {step.offset}"
    if not step.header:
        return f"{name}, {part}: {step.why}"
    return f"{name}, of {part} of {source}: {step.why}" if source else f"{name}, empty: {step.why}"


def _relative(path: str, root: Path) -> str:
    with suppress(ValueError):
        return str(Path(path).relative_to(root)) if path else ""
    return path


def _describe_kept(plan: Plan) -> list[str]:
    kept = f"records {plan.first_lsn} to {plan.last_lsn}"
    if plan.first_lsn > plan.last_lsn:
        kept = "no records"
    if not plan.lost and not plan.lost_history:
        return [f"Plan: keep all records, {plan.first_lsn} to {plan.last_lsn}."]
    if not plan.lost_history:
        return [f"Plan: keep {kept}, cut what is behind them."]
    assert plan.start is not None
    begin = f"the snapshot at record {plan.start.lsn} and {kept}"
    if plan.lost:
        return [f"Plan: keep {begin}; what is before and behind goes."]
    return [f"Plan: keep the present, {begin}; only history before them goes."]


def _describe_loss(title: str, loss: Loss) -> list[str]:
    if not loss.records:
        return []
    first, last = loss.records[0], loss.records[-1]
    lines = [
        f"{title}: records {first} to {last} ({len(loss.records)}), "
        f"of which {loss.readable} can still be read"
    ]
    if loss.events:
        lines.append("  events: " + ", ".join(f"{n} {name}" for name, n in loss.events.items()))
    for what, jobs in (("submits of", loss.jobs_submitted), ("ends of tasks of", loss.jobs_ended)):
        if jobs:
            parts = _in_ranges(jobs)
            more = ", …" if len(parts) > _PARTS_TOLD else ""
            count = "1 job" if len(jobs) == 1 else f"{len(jobs)} jobs"
            lines.append(f"  {what} {count}: {', '.join(parts[:_PARTS_TOLD])}{more}")
    return lines


def _in_ranges(numbers: list[int]) -> list[str]:
    """`1-3`, `7` of rising numbers."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return [str(low) if low == high else f"{low}-{high}" for low, high in ranges]
