"""When a real task host tells what happened: together where nobody waits for it, else at once."""

from __future__ import annotations

from tests.worker.builders import batch, key, launch
from tests.worker.host_driver import HostDriver
from titan.model import ReportKind


def test_a_start_is_told_before_its_end_is_near(host: HostDriver) -> None:
    task = host.run("sleep", "60")
    host.wait_start(task)
    assert host.find_end(task) is None


def test_a_flood_of_short_tasks_is_told_in_few_messages_and_in_order(host: HostDriver) -> None:
    count = 300
    host.send_batch(batch(launch("true"), indexes=range(count), slots=2))
    messages = 0
    while host.find_end(key(index=count - 1)) is None or len(host.reports) < 2 * count:
        assert host.pump(), host.log()
        messages += 1
    # One by one they would be 600.
    assert messages < 200
    assert [report.seq for report in host.reports] == list(range(1, 2 * count + 1))
    ends = {report.key.index for report in host.reports if report.kind is ReportKind.ENDED}
    assert ends == set(range(count))
