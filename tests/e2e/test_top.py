"""`titan top` on a terminal of its own, over a real cluster."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster import DEADLINE_SECONDS, Cluster
from tests.e2e.tasks import Gate

# The terminal's own palette, all that it draws with: https://no-color.org.
COLOURS = {b"%d" % number for number in (*range(30, 38), 38, *range(90, 98))}


class Terminal:
    """A pseudo-terminal of 100 columns, and a command in it."""

    def __init__(self, cluster: Cluster, *arguments: str, **variables: str) -> None:
        self.number, self.inside = os.openpty()
        fcntl.ioctl(self.inside, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self._before = termios.tcgetattr(self.inside)
        self.shown = b""
        # Its file descriptor, for others to draw on too.
        inside = self.inside
        environment = {**cluster.environment, "TERM": "xterm-256color", **variables}
        self.process = cluster.popen(
            *arguments, stdin=inside, stdout=inside, stderr=inside, env=environment
        )

    def wait_text(self, text: bytes) -> None:
        """Until it was drawn, after what was waited for before."""
        self.wait_shown(text)
        self.shown = self.shown.partition(text)[2]

    def wait_shown(self, text: bytes) -> None:
        """The same; what was drawn before it stays in `shown`."""
        end = time.monotonic() + DEADLINE_SECONDS
        while text not in self.shown:
            if time.monotonic() > end:
                # All of it: an assertion would leave out the middle.
                pytest.fail(f"{text!r} was not drawn: {self.process.poll()} {self.shown!r}")
            self._read()

    def _read(self) -> bool:
        """What was drawn meanwhile, a part of it: whether there was any."""
        if not select.select([self.number], [], [], 0.1)[0]:
            return False
        self.shown += os.read(self.number, 65_536)
        return True

    def press(self, keys: bytes) -> None:
        """Types them."""
        os.write(self.number, keys)

    def wait_end(self) -> int:
        """Its exit code."""
        end = time.monotonic() + DEADLINE_SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < end, self.shown[-4000:]
            self._read()
        # A terminal gives no more than 4 KiB at a time.
        while self._read():
            pass
        return self.process.returncode

    def check_restored(self) -> None:
        """Whether the terminal is as it was."""
        assert termios.tcgetattr(self.inside) == self._before
        # The other screen is left, the cursor shown.
        assert b"\x1b[?1049l" in self.shown
        assert b"\x1b[?25h" in self.shown

    def close(self) -> None:
        """Ends what still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.number)
        os.close(self.inside)


@contextmanager
def terminal(cluster: Cluster, *arguments: str, **variables: str) -> Iterator[Terminal]:
    """It, and no process of it behind it."""
    made = Terminal(cluster, *arguments, **variables)
    try:
        yield made
    finally:
        made.close()


def test_it_sees_a_job_run_shows_its_output_and_leaves_the_terminal_as_it_was(
    shared: Cluster, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    # As long as its heading: no terminal is so narrow that it is cut.
    with terminal(shared, "top", "--name", "top1") as top:
        top.wait_text(b"no jobs")
        job = shared.submit("--name", "top1", "--shell", f"echo it begins; {gate.line()}")
        top.wait_text(b"top1")
        top.wait_text(b"1 of 1 jobs")
        top.press(b"l")
        top.wait_text(b"output of %d" % job)
        top.wait_text(b"it begins")
        gate.open()
        top.wait_text(b"(ended)")
        top.press(b"q")
        assert top.wait_end() == 0
        top.check_restored()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_and_leaves_the_terminal_as_it_was(
    shared: Cluster, number: int, code: int
) -> None:
    with terminal(shared, "top") as top:
        top.wait_text(b"workers")
        top.process.send_signal(number)
        assert top.wait_end() == code
        top.check_restored()


@pytest.mark.parametrize(("variables", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_there_is_no_colour_where_none_is_wanted(
    shared: Cluster, variables: dict[str, str], is_coloured: bool
) -> None:
    with terminal(shared, "top", **variables) as top:
        top.wait_text(b"\x1b[?1049h")
        top.wait_shown(b"HEALTHY")
        top.press(b"q")
        assert top.wait_end() == 0
        drawn = re.findall(rb"\x1b\[([0-9;]*)m", top.shown)
        assert drawn
        colours = {word for each in drawn for word in each.split(b";") if word in COLOURS}
        assert bool(colours) == is_coloured


def test_with_errors_to_a_file_it_does_not_draw_into_that(shared: Cluster) -> None:
    with terminal(shared, "stats") as other:
        assert other.wait_end() == 0
        inside = other.inside
        top = shared.popen("top", stdin=inside, stdout=inside, stderr=subprocess.PIPE)
        _, err = top.communicate(timeout=DEADLINE_SECONDS)
        assert top.returncode == 1
        assert b"draws on a terminal, and this is none" in err
