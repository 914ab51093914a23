"""What the worker says of its machine."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from titan.worker.agent import node


def test_a_measurement_is_of_this_machine(tmp_path: Path) -> None:
    measured = node.measure(tmp_path)
    assert measured.memory_total_bytes == psutil.virtual_memory().total
    assert 0 < measured.memory_used_bytes < measured.memory_total_bytes
    assert measured.disk_free_bytes > 0
    assert measured.load_1m >= 0
    assert 0 <= measured.cpu_percent <= 100


def test_the_processors_are_those_this_process_may_use() -> None:
    assert node.cpus_milli() == 1000 * len(os.sched_getaffinity(0))


def test_the_memory_is_at_most_the_machines() -> None:
    assert 0 < node.memory_bytes() <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("line", "files", "limit"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "4096\n"}, 4096),
        ("0::/a/b\n", {"a/b/memory.max": "1024\n", "a/memory.max": "4096\n"}, 1024),
        ("0::/../outside\n", {}, None),
        ("4:cpu,memory:/job\n", {"memory/job/memory.limit_in_bytes": "2048\n"}, 2048),
        ("4:cpu:/job\n", {"cpu/job/memory.limit_in_bytes": "2048\n"}, None),
    ],
)
def test_a_cgroups_limit_counts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    files: dict[str, str],
    limit: int | None,
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "self").write_text(line)
    monkeypatch.setattr(node, "_CGROUPS", tmp_path)
    monkeypatch.setattr(node, "_OWN_CGROUP", tmp_path / "self")
    assert node.memory_bytes() == (limit or psutil.virtual_memory().total)
