"""Everything that can be wrong with a manager's data directory, a check each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from titan import paths
from titan.waltools.examine import Examination, Named, Progress, examine
from titan.waltools.journal_files import JournalFiles
from titan.waltools.places import DESCRIPTION, MANIFEST, Places
from wal.report import LogReport, SegmentReport


class Check(NamedTuple):
    """Something that was looked at. `told` says what was found, `fault` what is wrong with it."""

    kind: str
    subject: str
    told: str
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """All checks, and what to do when one of them found something."""

    checks: list[Check]
    advice: str

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not any(check.fault for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "ok": self.is_sound,
            "checks": [
                {
                    "check": each.kind,
                    "subject": each.subject,
                    "ok": not each.fault,
                    "found": each.fault or each.told,
                }
                for each in self.checks
            ],
            "advice": self.advice or None,
        }


def verify(places: Places, progress: Progress = lambda _: None) -> Verification:
    """Looks at everything. Raises wal.NotALog, wal.NewerVersion, OSError. O(bytes)."""
    found = examine(places, progress=progress)
    checks = [_check_description(places, found), *_checks(found)]
    is_sound = not any(check.fault for check in checks)
    return Verification(checks=checks, advice="" if is_sound else _advice(places, found))


def verify_journal(files: JournalFiles, progress: Progress = lambda _: None) -> Verification:
    """Looks at everything in a database. Raises as `verify`, JournalUnavailable, JournalRefused."""
    progress("fetching the journal")
    files.fetch_all()
    found = examine(files.places, progress=progress)
    root, name = str(files.places.root), files.name
    checks = list(_check_rows(files))
    for check in _checks(found):
        # Of what the files need and the database does not have, nothing is told.
        if check.fault or check.kind not in ("durable", "segment"):
            subject = check.subject.replace(root, name)
            fault = check.fault.replace(root, name)
            checks.append(check._replace(subject=subject, fault=fault))
    is_sound = not any(check.fault for check in checks)
    return Verification(checks=checks, advice="" if is_sound else _JOURNAL_ADVICE)


_JOURNAL_ADVICE = (
    "stop all managers, and look at the data directory of each with `titan wal verify`: it has a "
    "copy, and `titan journal copy` brings a sound one into another database"
)


def _check_rows(files: JournalFiles) -> Iterator[Check]:
    subject = f"{files.name}, rows"
    for first_lsn, why in files.row_faults:
        yield Check("rows", subject, "", f"row of record {first_lsn}: {why}")
    if not files.row_faults:
        yield Check("rows", subject, f"{files.rows} rows, chained, without a gap; terms never fall")


def _checks(found: Examination) -> list[Check]:
    """What holds of a log wherever it lies."""
    return [
        *map(_check_segment, found.log.segments),
        _check_durable(found.log),
        *_check_replay(found),
        *(_check_named("snapshot", each) for each in found.snapshots),
        *(_check_named("reader", each) for each in found.slots),
    ]


def _advice(places: Places, found: Examination) -> str:
    if found.replay_faults and not found.log.faults:
        return (
            "the bytes are as they were written, but this version of Titan cannot replay them: "
            "use the version that wrote them, or report it; a repair cannot help"
        )
    return (
        f"`titan wal repair {places.root}` shows what can be saved, and changes nothing by itself; "
        "`titan wal restore` takes up a backup"
    )


def _check_description(places: Places, found: Examination) -> Check:
    path = places.root / DESCRIPTION
    try:
        description = paths.read_json(path)
    except (OSError, ValueError) as error:
        return Check("description", str(path), "", str(error))
    if description is None and (places.root / MANIFEST).exists():
        return Check("description", str(places.root / MANIFEST), "it is a backup")
    if description is None:
        fault = "" if places.is_log_alone else "there is none: no manager starts here"
        return Check("description", str(path), "there is none", fault)
    cluster_id = description.get("cluster_id")
    told = f"cluster {cluster_id}"
    if found.state is not None and found.state.cluster_id.hex() != cluster_id:
        fault = f"it names the cluster {cluster_id}, the log {found.state.cluster_id.hex()}"
        return Check("description", str(path), told, fault)
    return Check("description", str(path), told)


def _check_segment(segment: SegmentReport) -> Check:
    told = f"records {segment.first_lsn} to {segment.next_lsn - 1}"
    if not segment.records:
        told = "no records"
    told += f", {segment.used_bytes} bytes"
    if segment.torn_bytes:
        told += f"; behind them a torn tail of {segment.torn_bytes} bytes, never acknowledged"
    fault = segment.gap or segment.fault
    return Check("segment", segment.path, told, _at(fault) if fault else "")


def _at(fault: Any) -> str:
    return f"byte {fault.offset}: expected {fault.expected}, found {fault.found}"


def _check_durable(log: LogReport) -> Check:
    path = f"{log.directory}/durable"
    if log.durable_fault is not None:
        return Check("durable", path, "", _at(log.durable_fault))
    if log.durable is None:
        return Check("durable", path, "it says nothing, as after a power loss")
    return Check("durable", path, f"up to record {log.durable.lsn}")


def _check_replay(found: Examination) -> Iterator[Check]:
    subject = str(found.places.log)
    for after_lsn, last_lsn in found.stretches:
        begin = f"the snapshot at record {after_lsn}" if after_lsn else "the beginning"
        yield Check("replay", subject, f"from {begin} to record {last_lsn}")
    for fault in found.replay_faults:
        yield Check("replay", subject, "", fault.why)
    if found.state is not None:
        state = found.state
        told = f"{len(state.jobs)} jobs, {len(state.live_jobs)} of them live, "
        told += f"{len(state.workers)} workers; every invariant holds"
        yield Check("state", f"at record {state.lsn}", told)


def _check_named(kind: str, found: Named) -> Check:
    told = f"record {found.position.lsn}" if found.position else ""
    if found.note:
        told += f", {found.note}"
    return Check(kind, str(found.path), told, found.fault)
