"""How an agent takes its leave: what it has to wait for before it may say good-bye.

Pure. The core tells what happened, this says how far it has come: perhaps what is held runs
out first, then the host stops what it runs, the last reports go out, the manager is told, the
agent ends.
"""

from __future__ import annotations

from enum import IntEnum

from titan.worker.agent.actions import Action, PassLeave, Quit


class _Step(IntEnum):
    STAYING = 0
    DRAINING = 1
    """What is held runs out; the manager gives nothing new."""
    STOPPING = 2
    HANDING_BACK = 3
    """The host runs nothing any more; the last reports are on their way."""
    DEREGISTERING = 4
    DONE = 5


class Departure:
    """Of one agent, which may never leave."""

    def __init__(self) -> None:
        self._step = _Step.STAYING
        # Whether the last message to the manager says so, and whether it has such a one.
        self._is_told = False
        self._is_known = False

    @property
    def is_draining(self) -> bool:
        """Whether the agent is to leave once nothing is held."""
        return self._step == _Step.DRAINING

    @property
    def is_unknown(self) -> bool:
        """Whether the manager has yet to be told that nothing new is wanted here."""
        return self._step == _Step.DRAINING and not self._is_known

    @property
    def has_begun(self) -> bool:
        """Whether nothing is started here any more."""
        return self._step > _Step.DRAINING

    def tell(self) -> bool:
        """What the heartbeat or registration that is being made says: whether the agent leaves."""
        self._is_told = self._step != _Step.STAYING
        return self._is_told

    def was_heard(self) -> None:
        """The manager has that heartbeat or registration."""
        self._is_known = self._is_told

    def drain(self) -> bool:
        """Let what is held run out first; False when the agent leaves already."""
        if self._step != _Step.STAYING:
            return False
        self._step = _Step.DRAINING
        return True

    def begin(self, grace_ms: int, *, has_host: bool) -> list[Action]:
        """Have the host stop all. A second call with another grace is passed on."""
        if not self.has_begun:
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
