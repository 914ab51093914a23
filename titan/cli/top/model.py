"""What `titan top` shows, as lines of text: rates, bars, order, filter, which columns fit. Pure.

All text of others is made safe here, by the table that it goes through or by `printable`; what a
line is made of is plain text and the name of a style, never markup.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from titan import units
from titan.cli.describe import ended_tasks, total_tasks, worker_state_text
from titan.cli.queue import HEADINGS, RIGHT, queue_row
from titan.cli.table import table_lines, text_width
from titan.cli.text import printable
from titan.client.cursors import has_ended
from titan.rpc.v1 import manager_pb2, types_pb2

# A line: pieces of text, each with the name of a style; "" is the terminal's own.
Line = list[tuple[str, str]]

STATE_STYLES: Final = {
    "PENDING": "ansi_yellow",
    "SCHEDULED": "ansi_yellow",
    "RUNNING": "ansi_cyan",
    "COMPLETED": "ansi_green",
    "FAILED": "ansi_red",
    "CANCELLED": "ansi_magenta",
    "HEALTHY": "ansi_green",
    "UNHEALTHY": "ansi_yellow",
    "DISCONNECTED": "ansi_red",
}
# Which columns a narrow terminal does without, the first first.
_GIVEN_UP: Final = ("PRIORITY", "MEMORY", "CPUS", "USER", "AGE")
_WORKERS_GIVEN_UP: Final = ("LOAD", "QUEUED", "HEARD", "STATE", "RUNNING")
WORKER_HEADINGS: Final = (
    *("WORKER", "STATE", "CPUS", "MEMORY", "RUNNING", "QUEUED", "LOAD", "HEARD"),
)
# So wide is the last column before others are given up for it.
_LAST_WIDTH_MIN: Final = 16
# No text that went through `printable` holds these: they mark the state within a line.
_BEGIN, _END = "\x01", "\x02"
_SPARKS: Final = "▁▂▃▄▅▆▇█"
# How much of the past is drawn, a sample a second being usual.
SAMPLES_MAX: Final = 300
# What the rate beside a sparkline is the mean of.
MEAN_SECONDS: Final = 10.0
_STATE_ORDER: Final = (
    *(types_pb2.RUNNING, types_pb2.SCHEDULED, types_pb2.PENDING),
    *(types_pb2.FAILED, types_pb2.CANCELLED, types_pb2.COMPLETED),
)


class Snapshot(NamedTuple):
    """What the manager answered at one time."""

    stats: manager_pb2.GetStatsResponse
    workers: Sequence[manager_pb2.Worker]
    jobs: Sequence[manager_pb2.Job]
    """Those that run first, then those that wait, each the oldest first."""
    has_more: bool
    """Whether jobs were left out."""


class _Sample(NamedTuple):
    at: float
    span: float
    submitted: int
    ended: int


class Rates:
    """Tasks submitted and ended per second, from one look at the counts to the next.

    The counts are of the jobs that the manager keeps. When it forgets old ones they fall: such a
    look tells nothing and is passed over.
    """

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque(maxlen=SAMPLES_MAX)
        self._last: tuple[float, int, int] | None = None

    def take(self, at: float, tasks: manager_pb2.TaskCounts) -> None:
        """The counts at a time of a monotonic clock, in seconds."""
        ended = tasks.completed + tasks.failed + tasks.cancelled
        total = ended + tasks.pending + tasks.scheduled + tasks.running
        if self._last is not None:
            before, total_before, ended_before = self._last
            if at <= before:
                return
            if total >= total_before and ended >= ended_before:
                self._samples.append(
                    _Sample(at, at - before, total - total_before, ended - ended_before)
                )
        self._last = (at, total, ended)

    @property
    def submitted(self) -> list[float]:
        """Per second, the oldest first."""
        return [each.submitted / each.span for each in self._samples]

    @property
    def ended(self) -> list[float]:
        """Per second, the oldest first."""
        return [each.ended / each.span for each in self._samples]

    def means(self) -> tuple[float, float]:
        """Submitted and ended per second, over the last ten seconds; 0 before there is any."""
        if not self._samples:
            return 0.0, 0.0
        since = self._samples[-1].at - MEAN_SECONDS
        recent = [each for each in self._samples if each.at > since]
        span = sum(each.span for each in recent)
        return (
            sum(each.submitted for each in recent) / span,
            sum(each.ended for each in recent) / span,
        )


def sparkline(values: Sequence[float], width: int) -> str:
    """The last `width` values as a row of bars, the largest of them full; blank on the left."""
    shown = list(values[-width:]) if width > 0 else []
    top = max(shown, default=0.0)
    steps = len(_SPARKS) - 1
    # What is not nothing must not look so.
    bars = (_SPARKS[min(steps, max(1, round(each / top * steps))) if each else 0] for each in shown)
    return "".join(bars).rjust(max(0, width))


def rate_text(rate: float) -> str:
    """`12.3/s`; from a hundred on without decimals."""
    return f"{rate:.1f}/s" if rate < 99.95 else f"{rate:,.0f}/s"


def bar(part: float, whole: float, width: int) -> str:
    """`████░░░░`. Something is at least one block, and all but everything leaves one."""
    if width <= 0:
        return ""
    if whole <= 0 or part <= 0:
        return "░" * width
    filled = min(width, max(1, round(part / whole * width)))
    if filled == width and part < whole and width > 1:
        filled -= 1
    return "█" * filled + "░" * (width - filled)


class Order(NamedTuple):
    """By which column jobs are sorted."""

    heading: str = ""
    """Empty: as they came, what runs first."""
    is_reversed: bool = False

    def moved(self, step: int) -> Order:
        """By the column so many further on, around the end; the order as they came is one of
        them."""
        headings = ("", *HEADINGS)
        place = (headings.index(self.heading) + step) % len(headings)
        return Order(headings[place])

    def turned(self) -> Order:
        """The other way round."""
        return self._replace(is_reversed=not self.is_reversed)

    def sorted(self, jobs: Sequence[manager_pb2.Job]) -> list[manager_pb2.Job]:
        """Numbers the largest first, text from A on; what is equal stays as it came."""
        if not self.heading:
            return list(reversed(jobs)) if self.is_reversed else list(jobs)
        return sorted(jobs, key=_SORT_KEYS[self.heading], reverse=self.is_reversed)


_SORT_KEYS: Final[dict[str, Callable[[manager_pb2.Job], Any]]] = {
    "JOB": lambda job: job.job_id,
    "NAME": lambda job: job.name.casefold(),
    "USER": lambda job: job.user.casefold(),
    "STATE": lambda job: _STATE_ORDER.index(job.state) if job.state in _STATE_ORDER else 99,
    "TASKS": lambda job: -(ended_tasks(job) / (total_tasks(job) or 1)),
    "CPUS": lambda job: -job.resources.cpus_milli,
    "MEMORY": lambda job: -job.resources.memory_bytes,
    "PRIORITY": lambda job: -job.priority,
    "AGE": lambda job: job.submit_us,
    "WORKER/REASON": lambda job: (has_ended(job), (job.worker or job.waiting_for).casefold()),
}


def filter_jobs(jobs: Sequence[manager_pb2.Job], text: str, now: float) -> list[manager_pb2.Job]:
    """Those in whose line all words of the text are, in any case."""
    words = text.casefold().split()
    if not words:
        return list(jobs)
    return [
        job
        for job in jobs
        if all(word in " ".join(queue_row(job, now)).casefold() for word in words)
    ]


@dataclass(slots=True)
class Cursor:
    """Which of some rows is chosen, by its key, and which of them are in view.

    It stays with its row where rows move. Where its row is gone it stays in its place.
    """

    place: int = 0
    key: Any = None
    top: int = 0

    def follow(self, keys: Sequence[Any], room: int) -> None:
        """The rows are these now, and so many of them fit."""
        if self.key in keys:
            self.place = keys.index(self.key)
        self._settle(keys, room)

    def move(self, step: int, keys: Sequence[Any], room: int) -> None:
        """So many rows further down."""
        self.place += step
        self._settle(keys, room)

    def _settle(self, keys: Sequence[Any], room: int) -> None:
        self.place = max(0, min(self.place, len(keys) - 1))
        self.key = keys[self.place] if keys else None
        room = max(1, room)
        self.top = min(self.top, self.place, max(0, len(keys) - room))
        self.top = max(self.top, self.place - room + 1)


def job_lines(
    jobs: Sequence[manager_pb2.Job], now: float, width: int, order: Order
) -> tuple[Line, list[Line]]:
    """The headings, and a line for each job; the column that sorts has an arrow."""
    arrow = "▲" if order.is_reversed else "▼"
    names = [each + arrow if each == order.heading else each for each in HEADINGS]
    rows = [queue_row(job, now) for job in jobs]
    return _lines(HEADINGS, names, rows, width, RIGHT, ("NAME", "WORKER/REASON"), _GIVEN_UP)


def worker_lines(
    workers: Sequence[manager_pb2.Worker], now: float, width: int
) -> tuple[Line, list[Line]]:
    """The headings, and a line for each worker: what of it is promised, as bars."""
    bar_width = 10 if width >= 100 else 6 if width >= 80 else 4
    rows = [_worker_row(worker, now, bar_width) for worker in workers]
    right = ("RUNNING", "QUEUED", "LOAD", "HEARD")
    headings = WORKER_HEADINGS
    return _lines(headings, headings, rows, width, right, ("WORKER",), _WORKERS_GIVEN_UP)


def _worker_row(worker: manager_pb2.Worker, now: float, bar_width: int) -> tuple[str, ...]:
    capacity, free = worker.capacity, worker.free
    cpus = capacity.cpus_milli - free.cpus_milli
    memory = capacity.memory_bytes - free.memory_bytes
    is_measured = worker.HasField("statistics")
    return (
        worker.name,
        worker_state_text(worker),
        f"{bar(cpus, capacity.cpus_milli, bar_width)} "
        f"{units.format_cpus(cpus)}/{units.format_cpus(capacity.cpus_milli)}",
        f"{bar(memory, capacity.memory_bytes, bar_width)} "
        f"{short_size(memory)}/{short_size(capacity.memory_bytes)}",
        str(worker.running),
        str(worker.queued),
        f"{worker.statistics.load_1m:.2f}" if is_measured else "-",
        units.format_age(now - worker.last_heartbeat_us / 1e6) if worker.last_heartbeat_us else "-",
    )


def short_size(size_bytes: int) -> str:
    """To one decimal: `15.6G`. It is to be seen, not to be read back."""
    text = units.format_size(size_bytes)
    number, unit = text.rstrip("BKMGTP"), text.lstrip("-.0123456789")
    return f"{float(number):.1f}".removesuffix(".0") + unit if "." in number else text


def _lines(
    headings: Sequence[str],
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    right: Sequence[str],
    cut: Sequence[str],
    given_up: Sequence[str],
) -> tuple[Line, list[Line]]:
    """The table without the columns that have no room. `names` are what headings are shown as."""
    lines: list[str] = []
    for count in range(len(given_up) + 1):
        kept = [place for place, each in enumerate(headings) if each not in given_up[:count]]
        shown = {headings[place]: names[place] for place in kept}
        lines = table_lines(
            [names[place] for place in kept],
            [[row[place] for place in kept] for row in rows],
            right=[shown[each] for each in right if each in shown],
            cut=[shown[each] for each in cut if each in shown],
            width=width,
            colour=lambda heading, cell: (
                f"{_BEGIN}{cell}{_END}" if heading.startswith("STATE") else cell
            ),
        )
        marks = str.maketrans("", "", _BEGIN + _END)
        widths = [text_width(line.translate(marks)) for line in lines]
        # What stands last is the longest, and is cut first: it gets some room before others do.
        longest = max((text_width(printable(row[-1])) for row in rows), default=0)
        room = width - widths[0] + text_width(names[-1])
        if max(widths) <= width and room >= min(longest, _LAST_WIDTH_MIN):
            break
    return [(lines[0], "bold")], [_styled(line) for line in lines[1:]]


def _styled(line: str) -> Line:
    before, _, rest = line.partition(_BEGIN)
    state, _, after = rest.partition(_END)
    words = state.split()
    style = STATE_STYLES.get(words[0], "") if words else ""
    return [(before, ""), (state, style), (after, "")]


def summary_lines(
    snapshot: Snapshot | None, rates: Rates, address: str, width: int, local_time: str
) -> Iterator[Line]:
    """The head of the screen, four lines: the manager, counts, what is in use, throughput."""
    if snapshot is None:
        yield [("titan top", "bold"), (f"  {printable(address)}  asking …", "")]
        yield from ([], [], [])
        return
    stats = snapshot.stats
    up = units.format_age((stats.now_us - stats.started_us) / 1e6) if stats.started_us else "-"
    left = f"  {printable(address)}  up {up}  record {stats.lsn}"
    room = width - len("titan top") - len(left)
    right = local_time.rjust(room) if room > len(local_time) + 1 else ""
    yield [("titan top", "bold"), (left + right, "")]
    tasks = [("tasks  ", "bold"), *_counts(stats.tasks)]
    jobs = [("   jobs  ", "bold"), *_counts(stats.jobs)]
    has_room = sum(len(piece) for piece, _ in (*tasks, *jobs)) <= width
    yield [*tasks, *jobs] if has_room else tasks
    yield _use_line(stats, width)
    submitted, ended = rates.means()
    texts = rate_text(ended), rate_text(submitted)
    spark_width = max(4, (width - 22 - sum(map(len, texts))) // 2)
    yield [
        *(
            ("ended ", "bold"),
            (sparkline(rates.ended, spark_width), "ansi_green"),
            (f" {texts[0]}", ""),
        ),
        ("  submitted ", "bold"),
        *((sparkline(rates.submitted, spark_width), "ansi_cyan"), (f" {texts[1]}", "")),
    ]


def _counts(counts: manager_pb2.TaskCounts) -> Line:
    """What runs and what waits, always; how the others ended, if there are any."""
    line: Line = [
        (f"{counts.running:,} running", STATE_STYLES["RUNNING"]),
        (f" {counts.pending + counts.scheduled:,} waiting", STATE_STYLES["PENDING"]),
    ]
    if counts.failed:
        line.append((f" {counts.failed:,} failed", STATE_STYLES["FAILED"]))
    return line


def _use_line(stats: manager_pb2.GetStatsResponse, width: int) -> Line:
    capacity, free = stats.capacity, stats.free
    cpus = capacity.cpus_milli - free.cpus_milli
    memory = capacity.memory_bytes - free.memory_bytes
    texts = (
        f" {units.format_cpus(cpus)}/{units.format_cpus(capacity.cpus_milli)}",
        f" {short_size(memory)}/{short_size(capacity.memory_bytes)}",
    )
    others = ", ".join(f"{count} {name}" for name, count in sorted(stats.workers.items()) if count)
    last = f"  workers {printable(others) or 'none'}"
    bar_width = max(4, min(20, (width - 15 - len(last) - sum(map(len, texts))) // 2))
    return [
        *(
            ("cpus ", "bold"),
            (bar(cpus, capacity.cpus_milli, bar_width), "ansi_cyan"),
            (texts[0], ""),
        ),
        ("  memory ", "bold"),
        *((bar(memory, capacity.memory_bytes, bar_width), "ansi_cyan"), (texts[1], "")),
        (last, ""),
    ]
