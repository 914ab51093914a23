"""Decides whether a run was right: `python -m tools.chaos.judge DIRECTORY` looks at one again.

Acknowledged means ended exactly once, and whatever really ran is an attempt of the log. Each
Violation is of one of these kinds:

    lost         acknowledged, and the log does not have it
    doubled      twice what must be once: a job, an attempt, an end, a run of one attempt; or two
                 runs of one task at once though nobody was cut off
    stuck        it did not end, or did not come back, in the time after the last fault
    orphaned     a process that no attempt has any more
    unaccounted  a run without its attempt, or an end without the run that it tells of
    wrong        another end than the job was made for, a start too early, a server that died
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Final

from tools.chaos.evidence import Event, Evidence, EvidenceError, Execution, Key, read_evidence
from tools.chaos.history import Attempt, Contact, History, Task, TaskEnd, Violation

KINDS: Final = ("lost", "doubled", "stuck", "orphaned", "unaccounted", "wrong")

# A task that is lost with its worker so often is given up.
LOSSES_MAX: Final = 5
# What was given up runs on no longer than this once its worker is back for good: a host may
# stand still for two and a half timeouts then, and has to call in first.
LINGER_SECONDS: Final = 30.0

# How a task of a job may end by what the job was made for; others are explained one by one.
ENDS: Final = {
    "fails": ("FAILED", "EXIT"),
    "limited": ("FAILED", "TIMEOUT"),
    "stubborn": ("FAILED", "TIMEOUT"),
    # Only by its user's cancel.
    "endless": ("", ""),
}
_WELL: Final = ("COMPLETED", "EXIT")


@dataclass(slots=True, kw_only=True)
class Wanted:
    """What a user knows of a job."""

    kind: str
    tasks: int
    retries: int


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What was found, and what there was."""

    violations: list[Violation] = field(default_factory=list)
    jobs: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    tasks: int = 0
    executions: int = 0
    cut_short: int = 0
    """Of the executions, those that did not come to their end."""
    repeated: int = 0
    """Tasks that really ran more than once."""
    overlapping: int = 0
    """Two runs of a task at once, of which one had been given up with its silent worker."""
    manager_starts: int = 0

    def count(self, kind: str) -> int:
        """Violations of that kind."""
        return sum(each.kind == kind for each in self.violations)


def judge(evidence: Evidence) -> Verdict:
    """Compares what is known."""
    return _Judge(evidence).verdict()


class _Judge:
    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._history = History(evidence.events)
        self._runs: dict[Key, list[Execution]] = defaultdict(list)
        self._runs_of_task: dict[Task, list[Execution]] = defaultdict(list)
        for each in sorted(evidence.executions, key=lambda each: each.start):
            self._runs[each.key].append(each)
            self._runs_of_task[each.key[:2]].append(each)
        self._wanted: dict[int, Wanted] = {}
        self._cancelled: set[int] = set()
        self._verdict = Verdict(
            violations=[*self._history.violations],
            attempts=Counter(each.state for each in self._history.attempts.values()),
            tasks=sum(len(job.indexes) for job in self._history.jobs.values()),
            executions=len(evidence.executions),
            cut_short=sum(each.exit_code is None for each in evidence.executions),
            repeated=sum(len(runs) > 1 for runs in self._runs_of_task.values()),
            manager_starts=self._history.starts,
        )

    def verdict(self) -> Verdict:
        """Everything, once."""
        self._check_requests()
        self._check_cancels()
        for job_id in self._history.jobs:
            self._check_job(job_id)
        for key, attempt in self._history.attempts.items():
            self._check_attempt(key, attempt)
        for execution in self._evidence.executions:
            self._check_execution(execution)
        for runs in self._runs_of_task.values():
            for earlier, later in combinations(runs, 2):
                self._check_overlap(earlier, later)
        for sentence in self._evidence.orphans:
            self._find("orphaned", 0, sentence)
        for sentence in self._evidence.unsettled:
            self._find("stuck", 0, sentence)
        for sentence in self._evidence.trouble:
            self._find("wrong", 0, sentence)
        return self._verdict

    def _find(self, kind: str, job_id: int, sentence: str) -> None:
        self._verdict.violations.append(Violation(kind, job_id, sentence))

    def _check_requests(self) -> None:
        """Every answer is in the log, once, and every job of the log was asked for."""
        sent = {}
        answers: dict[str, list[int]] = {}
        for line in self._evidence.users:
            if line["what"] == "submit":
                sent[line["request_id"]] = line["jobs"]
            elif line["what"] == "accepted":
                before = answers.setdefault(line["request_id"], line["job_ids"])
                if before != line["job_ids"]:
                    sentence = f"request {line['request_id']} was answered with {before}, then "
                    self._find("doubled", before[0], sentence + str(line["job_ids"]))
        self._verdict.acknowledged = len(answers)
        made = self._history.requests
        for request_id, job_ids in answers.items():
            missing = [each for each in job_ids if each not in self._history.jobs]
            if request_id not in made or missing:
                self._find("lost", job_ids[0], f"jobs {job_ids} were acknowledged: not in the log")
            elif made[request_id] != job_ids:
                sentence = f"request {request_id} was answered with {job_ids}, the log has "
                self._find("doubled", job_ids[0], sentence + str(made[request_id]))
        asked = set()
        for request_id, job_ids in made.items():
            if request_id not in sent:
                self._find("doubled", job_ids[0], f"jobs {job_ids}: nobody sent their request")
                continue
            asked.update(job_ids)
            for job_id, told in zip(job_ids, sent[request_id], strict=False):
                self._wanted[job_id] = Wanted(**told)
        for job_id in self._history.jobs.keys() - asked:
            self._find("doubled", job_id, f"job {job_id} belongs to no request")

    def _check_cancels(self) -> None:
        for line in self._evidence.users:
            if line["what"] == "cancel":
                self._cancelled.add(line["job_id"])
            elif line["what"] == "unknown":
                sentence = f"job {line['job_id']} was acknowledged, and then nobody knew it"
                self._find("lost", line["job_id"], sentence)
            elif line["what"] == "cancelled":
                job = self._history.jobs.get(line["job_id"])
                had_ended = line["state"] in ("COMPLETED", "FAILED", "CANCELLED")
                if job is not None and not job.is_cancel_requested and not had_ended:
                    sentence = (
                        f"the cancel of job {line['job_id']} was acknowledged: not in the log"
                    )
                    self._find("lost", line["job_id"], sentence)

    def _check_job(self, job_id: int) -> None:
        """All its tasks have ended, each as it may."""
        tasks = self._history.tasks_of(job_id)
        wanted = self._wanted.get(job_id)
        if wanted is not None and wanted.tasks != len(tasks):
            sentence = f"job {job_id} has {len(tasks)} tasks, asked for were {wanted.tasks}"
            self._find("wrong", job_id, sentence)
        states = set()
        for task in tasks:
            end = self._history.ends.get(task)
            if end is None:
                attempt = self._history.active.get(task)
                where = "it waits"
                if attempt is not None:
                    found = self._history.attempts[*task, attempt]
                    where = f"attempt {attempt} is {found.state} on {found.worker}"
                self._find("stuck", job_id, f"task {task[0]}.{task[1]} has not ended: {where}")
                continue
            states.add(end.state)
            if wanted is not None and not self._is_explained(task, end, wanted):
                sentence = f"task {task[0]}.{task[1]} ({wanted.kind}) is {end.state}: {end.reason}"
                self._find("wrong", job_id, sentence)
        # As jobs are judged that have several ends.
        for state in ("FAILED", "CANCELLED", "COMPLETED"):
            if state in states:
                self._verdict.jobs[state] += 1
                break

    def _is_explained(self, task: Task, end: TaskEnd, wanted: Wanted) -> bool:
        if end.state == "CANCELLED":
            job = self._history.jobs[task[0]]
            if end.reason == "DEPENDENCY_FAILED":
                return bool(job.after)
            # What was under way may have been lost before it could be told to stop.
            is_gone = end.reason in ("CANCELLED", "WORKER_LOST")
            return is_gone and task[0] in self._cancelled
        if end.reason == "WORKER_LOST":
            losses = sum(each.reason == "WORKER_LOST" for each in self._attempts_of(task))
            return end.state == "FAILED" and losses >= LOSSES_MAX
        if (end.state, end.reason) != ENDS.get(wanted.kind, _WELL):
            return False
        failed = sum(each.state == "FAILED" for each in self._attempts_of(task))
        return failed <= wanted.retries + (end.state == "FAILED")

    def _attempts_of(self, task: Task) -> Iterator[Attempt]:
        number = 1
        while (attempt := self._history.attempts.get((*task, number))) is not None:
            yield attempt
            number += 1

    def _check_attempt(self, key: Key, attempt: Attempt) -> None:
        """An end that tells of an exit has the run that exited so."""
        runs = self._runs.get(key, [])
        name = _name(key)
        if len(runs) > 1:
            pids = [each.pid for each in runs]
            self._find("doubled", key[0], f"attempt {name} ran {len(runs)} times, as {pids}")
        if attempt.state == "RECALLED" and runs:
            self._find("doubled", key[0], f"attempt {name} was recalled, and ran")
        if attempt.reason == "EXIT" and attempt.state in ("COMPLETED", "FAILED"):
            if not runs:
                sentence = f"attempt {name} is {attempt.state}, and never ran"
                self._find("unaccounted", key[0], sentence)
            elif runs[0].exit_code != attempt.exit_code:
                sentence = f"attempt {name} is {attempt.state} with exit code {attempt.exit_code}, "
                told = "did not come to its end"
                if runs[0].exit_code is not None:
                    told = f"ended with {runs[0].exit_code}"
                self._find("unaccounted", key[0], f"{sentence}its run {told}")

    def _check_execution(self, run: Execution) -> None:
        """It is an attempt, there; and what was given up does not run on for ever."""
        attempt = self._history.attempts.get(run.key)
        name = _name(run.key)
        if attempt is None:
            sentence = (
                f"process {run.pid} ran as {name} on {run.worker}: the log has no such attempt"
            )
            self._find("unaccounted", run.key[0], sentence)
            return
        if attempt.worker != run.worker:
            sentence = f"{name} ran on {run.worker}, the log has it on {attempt.worker}"
            self._find("unaccounted", run.key[0], sentence)
        if attempt.reason == "WORKER_LOST":
            back = self._back_for_good(attempt)
            last = self._evidence.boot_time + run.last
            if back is not None and last > back.time + LINGER_SECONDS:
                sentence = f"{name} was given up and ran on for {last - back.time:.1f} s after "
                self._find("orphaned", run.key[0], f"{sentence}{run.worker} was back")
        for each in self._history.jobs[run.key[0]].after:
            self._check_after(run, each)

    def _back_for_good(self, attempt: Attempt) -> Contact | None:
        """When its worker was heard again, and not lost soon after."""
        losses = self._history.losses.get(attempt.worker_number, [])
        for contact in self._history.contacts.get(attempt.worker_number, ()):
            is_short = any(
                contact.lsn < each.lsn and each.time < contact.time + LINGER_SECONDS
                for each in losses
            )
            if contact.lsn > attempt.losses[-1] and not is_short:
                return contact
        return None

    def _check_after(self, run: Execution, dependency: Event) -> None:
        """What it waited for had ended for real, too, unless that was cut off when it ended."""
        for task in self._history.tasks_of(dependency["job_id"]):
            end = self._history.ends.get(task)
            if end is None or not end.attempt:
                continue
            attempt = self._history.attempts[*task, end.attempt]
            if attempt.reason != "WORKER_LOST" or not self._history.was_lost_with_worker(attempt):
                for waited in self._runs.get((*task, end.attempt), ()):
                    if waited.last > run.start:
                        sentence = f"{_name(run.key)} started before {_name(waited.key)} had ended"
                        self._find("wrong", run.key[0], sentence)

    def _check_overlap(self, earlier: Execution, later: Execution) -> None:
        """At once only while the worker of the one that was given up was cut off."""
        if later.start >= earlier.last or earlier.key == later.key:
            return
        older, newer = sorted((earlier, later), key=lambda each: each.key)
        attempt = self._history.attempts.get(older.key)
        if attempt is None or newer.key not in self._history.attempts:
            return
        self._verdict.overlapping += 1
        if not self._history.was_lost_with_worker(attempt):
            sentence = (
                f"{_name(older.key)} on {older.worker} and {_name(newer.key)} on {newer.worker} "
                f"ran at once; the older one is {attempt.state}, not given up with its worker"
            )
            self._find("doubled", older.key[0], sentence)


def _name(key: Key) -> str:
    return f"{key[0]}.{key[1]} attempt {key[2]}"


def tell_story(job_id: int, evidence: Evidence) -> Iterator[str]:
    """Everything that is known of a job, in order."""
    lines = []
    for event in evidence.events:
        names = [event.get("job_id"), event.get("first_job_id")]
        if job_id in names:
            told = {name: value for name, value in event.items() if name not in ("lsn", "time")}
            lines.append((event["time"], f"log {event['lsn']}: {told}"))
    requests = [
        line["request_id"]
        for line in evidence.users
        if line["what"] == "accepted" and job_id in line["job_ids"]
    ]
    lines += [
        (line["time"], f"user: {line}")
        for line in evidence.users
        if line.get("job_id") == job_id or line.get("request_id") in requests
    ]
    for run in evidence.executions:
        if run.key[0] == job_id:
            start, last = (evidence.boot_time + each for each in (run.start, run.last))
            where = f"{_name(run.key)} on {run.worker} as process {run.pid}"
            lines.append((start, f"run: {where} starts"))
            lines.append((last, f"run: {where} was last seen, exit code {run.exit_code}"))
    for time, text in sorted(lines):
        yield f"{time:.3f} {text}"


def main(arguments: list[str]) -> int:
    """Looks at the directory of a run again. Returns the exit code."""
    try:
        evidence = read_evidence(Path(arguments[0]))
    except (EvidenceError, OSError) as error:
        print(f"judge: {error}", file=sys.stderr)
        return 2
    verdict = judge(evidence)
    for line in tell_verdict(verdict):
        print(line)
    return 1 if verdict.violations else 0


def tell_verdict(verdict: Verdict) -> Iterator[str]:
    """The report's lines about what was found."""
    yield f"requests acknowledged: {verdict.acknowledged}"
    yield f"jobs: {_counts(verdict.jobs)}"
    yield f"tasks: {verdict.tasks}, attempts: {_counts(verdict.attempts)}"
    yield (
        f"executions: {verdict.executions}, {verdict.cut_short} cut short, "
        f"{verdict.repeated} tasks ran more than once, {verdict.overlapping} times two at once "
        "(one given up with its silent worker)"
    )
    yield f"starts of the manager: {verdict.manager_starts}"
    yield ", ".join(f"{kind} {verdict.count(kind)}" for kind in KINDS)
    for each in verdict.violations[:20]:
        yield f"{each.kind.upper()}: {each.sentence}"
    if len(verdict.violations) > 20:
        yield f"… and {len(verdict.violations) - 20} more"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "none"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
