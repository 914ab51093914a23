"""Rows below headings, of which one is chosen, as a widget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget

from titan.cli.top.model import Cursor, Line

# The headings and the lines of the rows, for so many columns.
Layout = Callable[[int], tuple[Line, list[Line]]]

_CHOSEN: Final = "reverse"


class Listing(Widget, can_focus=True):
    """Draws only the rows in view. The chosen one is shown while the widget has the focus."""

    DEFAULT_CSS = "Listing { text-wrap: nowrap; text-overflow: clip; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)"),
        Binding("down,j", "move(1)"),
        Binding("pageup", "page(-1)"),
        Binding("pagedown", "page(1)"),
        Binding("home,g", "move(-1000000)"),
        Binding("end,G", "move(1000000)"),
    ]

    def __init__(self, *, id: str, nothing: str) -> None:  # noqa: A002 - textual's name
        """`nothing` is said where there are no rows."""
        super().__init__(id=id)
        self._nothing = nothing
        self._keys: list[Any] = []
        self._layout: Layout | None = None
        self._cursor = Cursor()

    @property
    def chosen(self) -> Any:
        """The key of the chosen row; None: there is none."""
        return self._cursor.key

    def show(self, keys: Sequence[Any], layout: Layout) -> None:
        """These rows, from now on."""
        self._keys = list(keys)
        self._layout = layout
        self._cursor.follow(self._keys, self._room)
        self.refresh()

    def action_move(self, step: int) -> None:
        """So many rows down."""
        self._cursor.move(step, self._keys, self._room)
        self.refresh()

    def action_page(self, step: int) -> None:
        """So many screens down."""
        self.action_move(step * max(1, self._room - 1))

    @property
    def _room(self) -> int:
        return max(1, self.size.height - 1)

    def render(self) -> Content:
        """The headings, and what is in view."""
        if self._layout is None:
            return Content("")
        # The size may be another since then.
        self._cursor.follow(self._keys, self._room)
        width = self.size.width
        headings, lines = self._layout(width)
        top = self._cursor.top
        shown = [_content(headings)]
        for place, line in enumerate(lines[top : top + self._room], top):
            content = _content(line)
            if place == self._cursor.place and self.has_focus:
                content = content.pad_right(max(0, width - content.cell_length)).stylize(_CHOSEN)
            shown.append(content)
        if not lines:
            shown.append(Content.styled(self._nothing, "dim"))
        return Content("\n").join(shown)


def _content(line: Line) -> Content:
    return Content.assemble(*line)


def contents(lines: Sequence[Line]) -> Content:
    """Lines below each other."""
    return Content("\n").join(map(_content, lines))
