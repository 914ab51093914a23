"""Text of others made safe to show: to a terminal, and as a line of a log. Pure.

What a terminal acts upon is shown as an escape: one who looks at a queue must not have his screen
changed, his clipboard filled or his next line forged by the name of somebody's job.
"""

from __future__ import annotations

import re
from typing import Final

# C0 and C1 controls; line and paragraph separators; what turns the direction of text around or
# takes no room, so that two names look alike (Unicode TR 36 and 39); tags; lone surrogates, which
# can't be printed. Joiner and non-joiner stay: Persian, Hindi and others are not written without.
_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_ESCAPES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    """The text with everything that a terminal would act upon shown as an escape."""
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    number = ord(character)
    if character in _ESCAPES:
        return _ESCAPES[character]
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
