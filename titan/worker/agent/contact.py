"""Whether the manager answers, and what is said of it when that changes.

Pure. A worker without its manager goes on; whoever reads its log shall see so once, not
at each call that fails.
"""

from __future__ import annotations

from titan.worker.agent.actions import Action, Level, Say


class Contact:
    """Of one agent with its manager."""

    def __init__(self) -> None:
        self.is_lost = False
        # Since the start, by whichever manager.
        self.was_registered = False

    def lost(self, sentence: str, then: str) -> list[Action]:
        """A call got no answer, for that reason; `then` is what becomes of this worker."""
        if self.is_lost:
            return []
        self.is_lost = True
        what = "lost" if self.was_registered else "cannot reach"
        return [Say(Level.WARNING, f"{what} the manager: {sentence}; {then}")]

    def passed_on(self, sentence: str) -> list[Action]:
        """The manager that was called does not answer or lead, and another one is called now."""
        if self.is_lost:
            return []
        return [Say(Level.INFO, f"looking for the manager that leads: {sentence}")]

    def back(self) -> list[Action]:
        """It answered."""
        if not self.is_lost:
            return []
        self.is_lost = False
        what = "is back" if self.was_registered else "answers"
        return [Say(Level.INFO, f"the manager {what}")]
