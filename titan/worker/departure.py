"""How an agent takes its leave: what it has to wait for before it may say good-bye.

Pure. The core tells what happened, this says how far it has come: the host stops what it
runs, the last reports go out, the manager is told, the agent ends.
"""

from __future__ import annotations

from enum import IntEnum

from titan.worker.actions import Action, PassLeave, Quit


class _Step(IntEnum):
    STAYING = 0
    STOPPING = 1
    HANDING_BACK = 2
    """The host runs nothing any more; the last reports are on their way."""
    DEREGISTERING = 3
    DONE = 4


class Departure:
    """Of one agent, which may never leave."""

    def __init__(self) -> None:
        self._step = _Step.STAYING

    @property
    def has_begun(self) -> bool:
        """Whether nothing is started here any more."""
        return self._step != _Step.STAYING

    def begin(self, grace_ms: int, *, has_host: bool) -> list[Action]:
        """Have the host stop all. A second call with another grace is passed on."""
        if self._step == _Step.STAYING:
            self._step = _Step.STOPPING
        if not has_host:
            return self.quit()
        return [PassLeave(grace_ms)] if self._step == _Step.STOPPING else []

    def host_stopped(self) -> None:
        """The host runs nothing any more."""
        if self._step == _Step.STOPPING:
            self._step = _Step.HANDING_BACK

    def host_lost(self) -> list[Action]:
        """There is nobody left to wait for."""
        return self.quit() if self.has_begun else []

    def take_good_bye(self) -> bool:
        """Whether it is time to tell the manager, all being reported; true once."""
        if self._step != _Step.HANDING_BACK:
            return False
        self._step = _Step.DEREGISTERING
        return True

    def quit(self) -> list[Action]:
        """The agent ends, whatever is left to do."""
        if self._step == _Step.DONE:
            return []
        self._step = _Step.DONE
        return [Quit()]
