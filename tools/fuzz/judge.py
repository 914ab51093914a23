"""What a server may look like after a storm, and what it must not. Pure but for `sample`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

MIB: Final = 1 << 20
# A storm may leave jobs, workers, request ids and, most of it, what the allocator keeps: of that
# malloc_trim would give back all but some 30 MiB.
GROWTH_BYTES_MAX: Final = 256 * MIB
# By how much the second half of a run may have more than the first, which had all of it once.
DRIFT_BYTES_MAX: Final = 96 * MIB
# In fewer steps there is no second half that is like the first.
DRIFT_STEPS_MIN: Final = 100
# Whatever is thrown at it meanwhile.
PEAK_BYTES_MAX: Final = 1_024 * MIB
# What a connection that has finished a handshake of TLS takes more than one without it.
TLS_BYTES: Final = 64 << 10
# One for a process that answers about the past, and the like.
DESCRIPTORS_MORE_MAX: Final = 24
THREADS_MORE_MAX: Final = 16
# How long an honest user may wait for one answer, at most and mostly, on a machine that is busy.
ANSWER_SECONDS_MAX: Final = 20.0
MEDIAN_SECONDS_MAX: Final = 2.0
_LINE: Final = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR|CRITICAL) "
)
_STATUS: Final = re.compile(r"(VmRSS|Threads):\s+(\d+)")
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]")
_LOSSES: Final = ("WorkerUnhealthy", "WorkerLost", "WorkerDeregistered")


class Sample(NamedTuple):
    """A process at one moment."""

    pid: int
    rss_bytes: int
    descriptors: int
    threads: int


def sample(pid: int) -> Sample:
    """What the system says of it. Raises OSError when it is gone."""
    status = Path(f"/proc/{pid}/status").read_text()
    found: dict[str, str] = dict(_STATUS.findall(status))
    if "VmRSS" not in found:
        raise ProcessLookupError(f"process {pid} has ended")
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    return Sample(pid, int(found["VmRSS"]) << 10, descriptors, int(found["Threads"]))


def judge_process(
    name: str, before: Sample, after: Sample | None, peak_bytes: int, *, tls_connections: int = 0
) -> list[str]:
    """What is wrong with a server, by what it had, at most with so many connections, and has."""
    if after is None:
        return [f"{name} has ended"]
    found = []
    if after.pid != before.pid:
        found.append(f"{name} is another process: {before.pid} before, {after.pid} now")
    grown = after.rss_bytes - before.rss_bytes
    if grown > GROWTH_BYTES_MAX:
        more = f"{grown / MIB:.0f} MiB more than before"
        found.append(f"{name} has {more}, over {_mib(GROWTH_BYTES_MAX)}")
    peak_max = PEAK_BYTES_MAX + tls_connections * TLS_BYTES
    if peak_bytes > peak_max:
        found.append(f"{name} had {peak_bytes / MIB:.0f} MiB, over {_mib(peak_max)}")
    if after.descriptors - before.descriptors > DESCRIPTORS_MORE_MAX:
        found.append(
            f"{name} has {after.descriptors} descriptors open, and had {before.descriptors}"
        )
    if after.threads - before.threads > THREADS_MORE_MAX:
        found.append(f"{name} has {after.threads} threads, and had {before.threads}")
    return found


def judge_drift(name: str, rss_bytes: Sequence[int]) -> list[str]:
    """Whether a server had more and more, by what it had after each step."""
    if len(rss_bytes) < DRIFT_STEPS_MIN:
        return []
    half = len(rss_bytes) // 2
    more = max(rss_bytes[half:]) - max(rss_bytes[:half])
    if more <= DRIFT_BYTES_MAX:
        return []
    drift = f"{more / MIB:.0f} MiB more in the second half than in the first"
    return [f"{name} had {drift}, over {_mib(DRIFT_BYTES_MAX)}"]


def judge_log(name: str, text: str) -> list[str]:
    """Lines that no healthy server writes, or that are no lines of its own."""
    found = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None and line.startswith("  "):
            # Of a traceback, whose first line is told.
            continue
        if match is None:
            found.append(f"{name} wrote a line that is none: {line[:200]!r}")
        elif match[1] in ("ERROR", "CRITICAL"):
            found.append(f"{name} wrote: {line[:300]!r}")
        elif _CONTROLS.search(line):
            found.append(f"{name} wrote control characters: {line[:200]!r}")
    return found[:20]


def judge_honest(lines: Sequence[Mapping[str, object]]) -> list[str]:
    """Whether the honest user was served."""
    found = [f"the honest user: {each['fault']}" for each in lines if "fault" in each]
    waits = [_seconds(each["submit"]) for each in lines if "submit" in each]
    waits += [_seconds(each["stats"]) for each in lines if "stats" in each]
    if not waits:
        return [*found, "the honest user was not served once"]
    if max(waits) > ANSWER_SECONDS_MAX:
        found.append(f"the honest user waited {max(waits):.1f} s for an answer")
    if median(waits) > MEDIAN_SECONDS_MAX:
        found.append(f"the honest user waited {median(waits):.1f} s for an answer, mostly")
    return found


def judge_worker(events: Sequence[Mapping[str, object]], name: str) -> list[str]:
    """Whether the honest worker was heard all the time, by the events of the log."""
    numbers = {each["worker"] for each in events if each.get("name") == name}
    return [
        f"{name}: {each['event']} at LSN {each['lsn']}"
        for each in events
        if each.get("event") in _LOSSES and each.get("worker") in numbers
    ]


def median(values: Sequence[float]) -> float:
    """The middle one; 0 of none."""
    return sorted(values)[len(values) // 2] if values else 0.0


def _seconds(value: object) -> float:
    assert isinstance(value, float)
    return value


def _mib(size: int) -> str:
    return f"the bound of {size // MIB} MiB"
