"""The rules that keep clock, randomness and I/O out of the pure parts do stop them.

Ruff's banned-api and import-linter hold the rules in `make check`; this shows that both would
speak up, and holds what they cannot see: names that need no import, and what is loaded at run time.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PURE_FILES = [
    "titan/model.py",
    "titan/model/task.py",
    "titan/events.py",
    "titan/events/codec.py",
    "titan/state.py",
    "titan/state/cluster.py",
    "titan/scheduler/backfill.py",
    "titan/scheduler/policies/spread.py",
    "titan/manager/kernel/kernel.py",
    "titan/manager/kernel/outbox.py",
    "titan/manager/kernel/ticks.py",
    "titan/queries/worker_selection.py",
    "titan/worker/agent/core.py",
    "titan/worker/agent/departure.py",
    "titan/worker/host/bookkeeping.py",
    "titan/worker/agent/report_queue.py",
    "titan/worker/host/slots.py",
    "titan/simulator/simulation.py",
]
IMPURE_FILES = [
    "titan/manager/clock.py",
    "titan/manager/shell.py",
    "titan/worker/agent/agent.py",
    "titan/worker/host/host.py",
    "titan/rpc/channel.py",
    "titan/cli/main.py",
    "titan/simulator/plot.py",
    "titan/paths.py",
    "wal/writer.py",
    "tests/titan/state/test_state.py",
    "tools/bench/__main__.py",
]
BANNED = {
    "clock": "import time\n\nNOW = time.time()\n",
    "monotonic clock": "from time import monotonic as now\n\nNOW = now()\n",
    "date": "import datetime as dt\n\nNOW = dt.datetime.now(dt.UTC)\n",
    "randomness": "import random\n\nDRAWN = random.random()\n",
    "secrets": "import secrets\n\nTOKEN = secrets.token_bytes(16)\n",
    "random id": "import uuid\n\nID = uuid.uuid4()\n",
    "system": "import os\n\nDRAWN = os.urandom(8)\n",
    "path": "from pathlib import Path\n\nTEXT = Path('x').read_text()\n",
    "socket": "import socket\n\nPAIR = socket.socketpair()\n",
    "process": "import subprocess\n\nCODE = subprocess.call(['true'])\n",
    "thread": "import threading\n\nLOCK = threading.Lock()\n",
    "event loop": "import asyncio\n\nasyncio.run(None)\n",
    "import inside a function": "def f() -> float:\n    import time\n\n    return time.time()\n",
}
ALLOWED = "import datetime as dt\nimport uuid\n\nTIME = dt.datetime\nID = uuid.UUID(int=1)\n"

# Ruff's banned-api sees imported names only.
BANNED_BUILTINS = {"breakpoint", "eval", "exec", "hash", "id", "input", "open", "print"}


def banned_api(source: str, file_name: str) -> subprocess.CompletedProcess[str]:
    """Lint `source` as if it were the file, with the project's configuration."""
    options = ["--no-cache", "--select=TID251", "--output-format=concise"]
    return subprocess.run(
        [sys.executable, "-m", "ruff", "check", *options, f"--stdin-filename={file_name}", "-"],
        cwd=ROOT,
        input=source,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("source", BANNED.values(), ids=BANNED.keys())
def test_a_pure_part_may_not_name_clock_randomness_or_io(source: str) -> None:
    lint = banned_api(source, "titan/state/cluster.py")
    assert lint.returncode == 1
    assert "TID251" in lint.stdout


@pytest.mark.parametrize("file_name", PURE_FILES)
def test_every_pure_part_is_held_to_the_rule(file_name: str) -> None:
    assert "TID251" in banned_api(BANNED["clock"], file_name).stdout
    assert banned_api(ALLOWED, file_name).returncode == 0


@pytest.mark.parametrize("file_name", IMPURE_FILES)
def test_the_other_parts_may_use_the_clock(file_name: str) -> None:
    lint = banned_api(BANNED["clock"], file_name)
    assert lint.returncode == 0, lint.stdout


def banned_builtins(source: str) -> list[str]:
    """Name the calls of builtins that do I/O or differ from process to process."""
    names = [
        node.func.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    return [name for name in names if name in BANNED_BUILTINS]


def find_pure(copy: Path) -> list[Path]:
    """Ask ruff's configuration which files are pure, so that there is one list of them.

    All at once: in `copy` each file has only what no pure file may have.
    """
    for path in (ROOT / "titan").rglob("*.py"):
        place = copy / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(BANNED["clock"])
    options = ["--no-cache", "--select=TID251", "--output-format=json"]
    lint = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *options, f"--config={ROOT}/pyproject.toml", "."],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert lint.returncode == 1, lint.stderr
    found = {Path(each["filename"]) for each in json.loads(lint.stdout)}
    return [ROOT / path.relative_to(copy) for path in sorted(found)]


def test_a_pure_part_calls_no_builtin_that_does_io_or_depends_on_the_process(
    tmp_path: Path,
) -> None:
    assert banned_builtins("def f(x):\n    return hash(open(x))\n") == ["hash", "open"]
    pure = find_pure(tmp_path)
    found = {str(path.relative_to(ROOT)): banned_builtins(path.read_text()) for path in pure}
    assert {name: calls for name, calls in found.items() if calls} == {}
    # What is found so is what is found of each file by itself.
    assert {"titan/events.py", "titan/worker/host/slots.py"} <= found.keys()
    assert found.keys().isdisjoint(IMPURE_FILES)


# Each module, and what loading it must not load, parents' __init__ included.
LOADS_NOT = {
    "wal": ["titan", "google.protobuf", "grpc", "msgpack"],
    "titan": ["google.protobuf", "grpc"],
    "titan.worker.host": ["google.protobuf", "grpc"],
    "titan.lookback.server": ["asyncio", "grpc"],
    "titan.cli.main": ["google.protobuf", "grpc"],
}


@pytest.mark.parametrize(("module", "unwanted"), LOADS_NOT.items(), ids=LOADS_NOT.keys())
def test_a_module_loads_nothing_it_must_not(module: str, unwanted: list[str]) -> None:
    program = f"import sys, {module}; print(sorted({set(unwanted)} & sys.modules.keys()))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout == "[]\n"
