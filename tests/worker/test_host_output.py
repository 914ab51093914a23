"""What a real task host does about tasks that write much, in every way they may."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.crash.strace import require_strace
from tests.worker.builders import key
from tests.worker.host_driver import HostDriver, is_running, wait_for
from titan.model import AttemptKey, Reason, State
from titan.worker.output import hole as output_hole
from titan.worker.output.reading import OutputFile, Piece

M = 1 << 20
CAP = M
# Lines of eight bytes that tell where they stand, as many as fill a mebibyte.
COUNT = """
import os, sys
line = 0
while line < {lines}:
    block = b"".join(b"%07d\\n" % (line + n) for n in range(131072))
    os.write({fd}, block)
    line += 131072
"""


def python(code: str) -> tuple[str, str, str]:
    return sys.executable, "-c", code


def count(mebibytes: int, fd: int = 1) -> tuple[str, str, str]:
    """Writes so many MiB, each line with its number."""
    return python(COUNT.format(lines=mebibytes * 131072, fd=fd))


def path_of(host: HostDriver, attempt: AttemptKey, suffix: bytes = b"out") -> Path:
    return Path(os.fsdecode(host.output_path(attempt, suffix)))


def taken_bytes(path: Path) -> int:
    return path.stat().st_blocks * 512 if path.exists() else 0


def pieces_of(host: HostDriver, attempt: AttemptKey, suffix: bytes = b"out") -> list[Piece]:
    """All that a reader gets, neighbouring data joined."""
    file = OutputFile(os.fsencode(host.path / "output"), attempt, suffix, 0)
    pieces: list[Piece] = []
    while file.has_more():
        piece = file.read()
        if piece.data and pieces and pieces[-1].data:
            pieces[-1] = pieces[-1]._replace(data=pieces[-1].data + piece.data)
        else:
            pieces.append(piece)
    file.close()
    return pieces


def check_cut(pieces: list[Piece], length: int) -> None:
    """The beginning, a hole and the end of what `count` wrote; all offsets true."""
    head, hole, tail = pieces
    assert head.offset == 0
    assert hole.offset == len(head.data)
    assert tail.offset == hole.offset + hole.hole_bytes
    assert tail.offset + len(tail.data) == length
    assert len(head.data) >= CAP // 4
    assert len(tail.data) >= CAP // 4
    for piece in (head, tail):
        numbers = [int(line) for line in piece.data.split()]
        first = piece.offset // 8
        assert numbers == list(range(first, first + len(numbers)))


def test_a_task_that_writes_on_and_on_stays_below_the_cap_and_keeps_both_ends(
    driver: HostDriver,
) -> None:
    driver.start()
    driver.connect(output_max_bytes=CAP)
    attempt = driver.run(*count(64))
    path = path_of(driver, attempt)
    most = 0

    def ended() -> bool:
        nonlocal most
        most = max(most, taken_bytes(path))
        return driver.process is not None and path.exists() and path.stat().st_size == 64 * M

    wait_for(ended, "all to be written")
    report = driver.wait_end(attempt)
    assert (report.state, report.exit_code) == (State.COMPLETED, 0)
    assert taken_bytes(path) <= CAP
    check_cut(pieces_of(driver, attempt), 64 * M)
    # What it can write within some seconds, and far from all that it wrote.
    assert most < 64 * M


def test_one_that_never_ends_is_cut_again_and_again_without_an_agent(driver: HostDriver) -> None:
    driver.start()
    driver.connect(output_max_bytes=CAP)
    attempt = driver.run("yes")
    driver.wait_start(attempt)
    driver.disconnect()
    path = path_of(driver, attempt)
    wait_for(lambda: output_hole.read_note(os.fsencode(path)).end > 50 * M, "the first cuts")
    seen = output_hole.read_note(os.fsencode(path))
    wait_for(lambda: output_hole.read_note(os.fsencode(path)).end > seen.end, "another cut")
    driver.connect(output_max_bytes=CAP)
    driver.stop(attempt)
    assert driver.wait_end(attempt).state is State.CANCELLED
    assert taken_bytes(path) <= CAP


def test_what_a_task_writes_last_is_cut_too_in_each_of_its_streams(driver: HostDriver) -> None:
    driver.start()
    driver.connect(output_max_bytes=CAP)
    gate = driver.path / "gate"
    line = "until [ -e $0 ]; do sleep 0.02; done; head -c 3M /dev/zero; head -c 2M /dev/zero >&2"
    attempt = driver.run("sh", "-c", line, str(gate))
    driver.wait_start(attempt)
    (pid,) = driver.children()
    # A look while it writes would cut its output there, and leave room for the rest.
    with driver.standing_still():
        gate.touch()
        wait_for(lambda: not is_running(pid), "all to be written")
    assert driver.wait_end(attempt).state is State.COMPLETED
    for suffix, length in ((b"out", 3 * M), (b"err", 2 * M)):
        path = path_of(driver, attempt, suffix)
        assert (path.stat().st_size, taken_bytes(path)) == (length, CAP // 2)
        sizes = [(piece.offset, piece.hole_bytes) for piece in pieces_of(driver, attempt, suffix)]
        quarter = CAP // 4
        assert sizes == [(0, 0), (quarter, length - 2 * quarter), (length - quarter, 0)]


def test_many_processes_that_write_at_once_lose_no_line_of_what_is_kept(
    driver: HostDriver,
) -> None:
    driver.start()
    driver.connect(output_max_bytes=CAP)
    code = (
        "import os\n"
        "for child in range(8):\n"
        "    if not os.fork():\n"
        "        for n in range(20000): os.write(1, b'%d %06d ........\\n' % (child, n))\n"
        "        os._exit(0)\n"
        "for _ in range(8): os.wait()"
    )
    attempt = driver.run(*python(code))
    assert driver.wait_end(attempt).state is State.COMPLETED
    head, hole, tail = pieces_of(driver, attempt)
    line_bytes = len(b"0 000000 ........\n")
    assert tail.offset + len(tail.data) == 8 * 20000 * line_bytes
    seen: dict[bytes, int] = {}
    for piece in (head, tail):
        skipped = -piece.offset % line_bytes
        for begin in range(skipped, len(piece.data) - line_bytes + 1, line_bytes):
            child, number, _ = piece.data[begin : begin + line_bytes].split()
            # Each child's lines are in its order.
            assert seen.get(child, -1) < int(number)
            seen[child] = int(number)
    assert hole.hole_bytes > M
    assert max(seen.values()) == 19999


def test_a_task_that_closes_its_stdout_runs_on(host: HostDriver) -> None:
    attempt = host.run("sh", "-c", "echo before; exec >&-; echo lost; echo after >&2; exit 4")
    assert host.wait_end(attempt).exit_code == 4
    assert host.output(attempt) == b"before\n"
    assert host.output(attempt, b"err").endswith(b"after\n")


def test_without_a_cap_nothing_is_left_out(driver: HostDriver) -> None:
    driver.start()
    driver.connect(output_max_bytes=0)
    attempt = driver.run("head", "-c", "5M", "/dev/zero")
    assert driver.wait_end(attempt).state is State.COMPLETED
    assert taken_bytes(path_of(driver, attempt)) >= 5 * M
    assert [piece.offset for piece in pieces_of(driver, attempt)] == [0]


def test_a_cap_that_comes_with_a_new_agent_holds_for_what_runs(driver: HostDriver) -> None:
    driver.start()
    driver.connect(output_max_bytes=0)
    attempt = driver.run("sh", "-c", "head -c 5M /dev/zero; echo; exec sleep 300")
    path = path_of(driver, attempt)
    wait_for(lambda: path.exists() and path.stat().st_size > 5 * M, "the output")
    driver.connect(output_max_bytes=CAP)
    wait_for(lambda: taken_bytes(path) <= CAP, "the cut")


def test_zeros_and_holes_of_the_tasks_own_making_are_its_output(driver: HostDriver) -> None:
    driver.start()
    driver.connect(output_max_bytes=CAP)
    code = "import os; os.write(1, b'begin'); os.truncate(1, 1 << 26); os.write(1, b'end')"
    attempt = driver.run(*python(code))
    assert driver.wait_end(attempt).state is State.COMPLETED
    (piece,) = pieces_of(driver, attempt)
    assert len(piece.data) == (1 << 26) + 3
    assert piece.data.strip(b"\0") == b"begin" + b"\0" * ((1 << 26) - 5) + b"end"


def test_where_nothing_can_be_left_out_the_task_is_ended_and_told_why(
    driver: HostDriver, tmp_path: Path
) -> None:
    require_strace()
    fault = ("-e", "trace=fallocate", "-e", "inject=fallocate:error=EOPNOTSUPP")
    driver.start(under=("strace", "-o", str(tmp_path / "strace.txt"), *fault))
    driver.connect(output_max_bytes=CAP)
    endless = driver.run("sh", "-c", "yes & wait")
    brief = driver.run("head", "-c", "3M", "/dev/zero", job_id=2)
    quiet = driver.run("sh", "-c", "echo fine", job_id=3)
    for attempt in (endless, brief):
        report = driver.wait_end(attempt)
        assert (report.state, report.reason) == (State.FAILED, Reason.OUTPUT_LIMIT)
        assert report.detail == (
            "wrote more than 1M to stdout, the worker's --output-max, and the file system there "
            "cannot leave out the middle (Operation not supported): write less, or start the "
            "worker with a larger one"
        )
        path = path_of(driver, attempt)
        assert path.stat().st_size == CAP
        assert sorted(os.listdir(path.parent)) == ["0.1.err", "0.1.out"]
    assert driver.wait_end(endless).signal == 9
    assert driver.wait_end(quiet).state is State.COMPLETED
    assert key() == endless
