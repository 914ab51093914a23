"""The wire's enums by name, known or not. By itself, since the shortest commands need it too."""

from __future__ import annotations

from enum import IntEnum


def enum_name(kind: type[IntEnum], number: int) -> str | None:
    """The name of a state or reason; None for 0. A newer manager may send one unknown here."""
    if number == 0:
        return None
    try:
        return kind(number).name
    except ValueError:
        return f"UNKNOWN_{number}"
