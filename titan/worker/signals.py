"""Signals by number and name, for the pure parts: the standard library's module sends them too."""

from __future__ import annotations

from typing import Final

SIGHUP: Final = 1
SIGINT: Final = 2
SIGQUIT: Final = 3
SIGKILL: Final = 9
SIGTERM: Final = 15
SIGCONT: Final = 18
SIGSTOP: Final = 19

# signal(7), the numbers of x86 and ARM; those beyond are real-time signals without names.
# fmt: off
_NAMES: Final = (
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
)
# fmt: on


def describe(number: int) -> str:
    """`SIGSEGV (signal 11)`; `signal 40` for those without a name."""
    if 1 <= number <= len(_NAMES):
        return f"SIG{_NAMES[number - 1]} (signal {number})"
    return f"signal {number}"
