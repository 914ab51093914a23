"""How `titan dev` ends its servers."""

import asyncio
import signal
from pathlib import Path

import pytest

from titan.cli import dev_processes
from titan.cli.dev_processes import Child, stop_all


class Server(Child):
    """Ends once it has heard so many signals, or is killed."""

    def __init__(self, hears: int) -> None:
        super().__init__("w1", (), Path("none"))
        self.heard: list[signal.Signals] = []
        self._hears = hears
        self._gone = asyncio.Event()

    def send(self, number: signal.Signals) -> None:
        if self._gone.is_set():
            return
        self.heard.append(number)
        if len(self.heard) == self._hears or number == signal.SIGKILL:
            self._gone.set()

    async def wait(self) -> int:
        await self._gone.wait()
        return 0


def stop(server: Server, *, hurries: bool, patience_seconds: float = 600.0) -> list[signal.Signals]:
    async def run() -> None:
        hurry = asyncio.Event()
        if hurries:
            hurry.set()
        await stop_all([server], signal.SIGINT, patience_seconds, hurry)

    asyncio.run(run())
    return server.heard


def test_one_that_heeds_the_first_signal_is_sent_no_other() -> None:
    assert stop(Server(1), hurries=False) == [signal.SIGINT]
    assert stop(Server(1), hurries=True) == [signal.SIGINT]


def test_one_that_hears_two_signals_as_one_is_told_again() -> None:
    # The first and the second came before it looked: of those it has heard one.
    assert stop(Server(3), hurries=True) == [signal.SIGINT] * 3


def test_one_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev_processes, "REST_SECONDS", 0.1)
    deaf = stop(Server(1_000), hurries=True)
    assert deaf[-1] == signal.SIGKILL
    assert {*deaf[:-1]} == {signal.SIGINT}
    assert stop(Server(1_000), hurries=False, patience_seconds=0.1) == [
        signal.SIGINT,
        signal.SIGKILL,
    ]
