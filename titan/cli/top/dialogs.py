"""What stands over the screen until a key is pressed: a question, and which keys there are."""

from __future__ import annotations

from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

HELP: Final = """\
↑ ↓ PgUp PgDn Home End   choose a job, or a worker
Tab      between workers and jobs
< >      sort by the column before, after
r        sort the other way round
/        show only lines with these words: user, name, state …
a        ended jobs too, the newest first
l        follow what the job writes
w Enter  why it waits, or where it is
c        cancel the job
h        hold the job, or release it
d        drain the worker, or lift its drain
Esc      close what is open, take the words away
p Space  pause
q        quit (Ctrl-C: with exit code 130)"""

_BOX: Final = """
    align: center middle;
    background: ansi_default;
    & > Static {
        width: auto; max-width: 100%; height: auto; padding: 0 1;
        border: round ansi_default; background: ansi_default;
    }
"""


class Confirm(ModalScreen[bool]):
    """A question; y or n."""

    DEFAULT_CSS = f"Confirm {{ {_BOX} }}"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)"),
        Binding("n,escape,q", "answer(False)"),
    ]

    def __init__(self, question: str) -> None:
        """`question` is safe to print."""
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """The question."""
        yield Static(Content(f"{self._question}\n\ny yes   n no"))

    def action_answer(self, is_yes: bool) -> None:
        """Closes it."""
        self.dismiss(is_yes)


class Help(ModalScreen[None]):
    """The keys."""

    DEFAULT_CSS = f"Help {{ {_BOX} }}"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,enter", "close")]

    def compose(self) -> ComposeResult:
        """All of them."""
        yield Static(Content(HELP))

    def action_close(self) -> None:
        """Closes it."""
        self.dismiss(None)
