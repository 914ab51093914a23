"""What a command loads before it does anything: most of a short command's time."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("command", "others"),
    [("queue", {"titan.client.views", "titan.client.arrays"}), ("submit", {"titan.cli.flow"})],
)
def test_the_commands_used_most_load_only_what_every_call_takes(
    command: str, others: set[str]
) -> None:
    code = f"import sys, titan.cli.{command}, titan.client.session; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    slow = {"hashlib", "rich", "titan.checks", "titan.rpc.v1.manager_pb2_grpc"} | others
    assert not slow & set(out.stdout.split())
