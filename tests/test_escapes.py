"""What a terminal would act upon, and what people write."""

from __future__ import annotations

import pytest

from titan.escapes import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ä, 日本, 🙂", "plain, ä, 日本, 🙂"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x1b]52;c;aGFoYQ==\x07", "\\x1b]52;c;aGFoYQ==\\x07"),
        ("a\rb\x08\tc\nd", "a\\rb\\x08\\tc\\nd"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
        ("a\u2028b\u200bc\ufeff", "a\\u2028b\\u200bc\\ufeff"),
        ("\U000e0041", "\\U000e0041"),
        ("\udcff", "\\udcff"),
        # Neither Persian nor families of emoji are written without these.
        ("\u0645\u06cc\u200c\u062e 👨\u200d👩", "\u0645\u06cc\u200c\u062e 👨\u200d👩"),
    ],
)
def test_what_a_terminal_acts_upon_is_shown_and_what_people_write_stays(
    text: str, shown: str
) -> None:
    assert printable(text) == shown
