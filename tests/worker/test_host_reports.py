"""When a real task host tells what happened: together where nobody waits for it, else at once."""

from __future__ import annotations

import time

from tests.worker.builders import batch, launch
from tests.worker.host_driver import HostDriver
from titan.model import ReportKind
from titan.worker.host.host import BUSY_WAITS_SECONDS


def test_a_start_is_told_before_its_end_is_near(host: HostDriver) -> None:
    task = host.run("sleep", "60")
    host.wait_start(task)
    assert host.find_end(task) is None


def test_a_flood_of_short_tasks_is_told_in_few_messages_and_in_order(host: HostDriver) -> None:
    count = 300
    began = time.monotonic()
    host.send_batch(batch(launch("true"), indexes=range(count), slots=2))
    messages = 0
    while not host.reports or host.reports[-1].seq < 2 * count:
        assert host.pump(), host.log()
        messages += 1
    # One by one they would be 600; a slow machine has time for more of them.
    assert messages < 100 + (time.monotonic() - began) / BUSY_WAITS_SECONDS
    numbers = [report.seq for report in host.reports]
    assert numbers == sorted(set(numbers))
    # Of most, whose end was told with it, the start is not.
    assert len(numbers) < 2 * count
    ends = [report.key.index for report in host.reports if report.kind is ReportKind.ENDED]
    assert sorted(ends) == list(range(count))
