"""Files of other schedulers, as they are imported."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.simulator.builders import swf_line
from titan.history.imported import ImportedJob
from titan.history.mini_slurm import TREATMENT, Oddity, open_mini_slurm
from titan.history.swf import TREATMENT as SWF_TREATMENT
from titan.history.swf import Oddity as SwfOddity
from titan.history.swf import read_jobs
from titan.traces.lines import OddLines

T0 = 1_793_000_000
SWF = ["; UnixStartTime: 1793000000", *(swf_line(number, number * 10) for number in (1, 2, 7))]

# As Mini-SLURM makes it, with all that its later versions have added.
TABLE = """
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, command TEXT, cpus INTEGER, mem_mb INTEGER, status TEXT,
    priority INTEGER, submit_time REAL, start_time REAL, end_time REAL, wait_time REAL,
    runtime REAL, return_code INTEGER, user TEXT, stdout_path TEXT, stderr_path TEXT,
    cpu_user_time REAL, cpu_system_time REAL, is_elastic INTEGER, nodes TEXT
)
"""
RAN: dict[str, Any] = {
    "id": 1, "command": "/usr/bin/python train.py", "cpus": 2, "mem_mb": 512, "status": "COMPLETED",
    "priority": 3, "submit_time": T0 + 0.25, "start_time": T0 + 10.25, "end_time": T0 + 30.25,
    "return_code": 0, "user": "ada", "stdout_path": "/l/1.out", "stderr_path": "/l/1.err",
    "cpu_user_time": 8.0, "cpu_system_time": 2.0, "nodes": '["node1", "node2"]',
}  # fmt: skip


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {**RAN, "id": number, **changes}


def write_mini_slurm(path: Path, rows: Sequence[dict[str, Any]], table: str = TABLE) -> Path:
    """Puts them into the file, which is made if it is not there."""
    connection = sqlite3.connect(path)
    if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        connection.execute(table)
    for each in rows:
        names, marks = ", ".join(each), ", ".join("?" * len(each))
        connection.execute(
            f"INSERT OR REPLACE INTO jobs ({names}) VALUES ({marks})", [*each.values()]
        )
    connection.commit()
    connection.close()
    return path


def read_mini_slurm(path: Path) -> tuple[list[ImportedJob], OddLines[Oddity]]:
    odd = OddLines(TREATMENT, "job")
    with open_mini_slurm(path) as source:
        return list(source.read_jobs(odd)), odd


def read_swf(*lines: str) -> tuple[list[ImportedJob], OddLines[SwfOddity]]:
    odd = OddLines(SWF_TREATMENT)
    return list(read_jobs(lines, T0, odd)), odd


def write_swf(path: Path, lines: Sequence[str] = SWF) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path
