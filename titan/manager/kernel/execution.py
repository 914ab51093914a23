"""What a way to run tasks must hold to be accepted; what it means is the worker's business."""

from __future__ import annotations

from titan.errors import InvalidJob
from titan.model import UMASK_MAX, Execution


def check_execution(execution: Execution, prefix: str) -> None:
    """Raises InvalidJob with a sentence that begins with `prefix`."""
    _check(
        -1 <= execution.umask <= UMASK_MAX,
        f"{prefix}{execution.umask:o} is no umask: they are 0 to {UMASK_MAX:o}, octal",
    )


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise InvalidJob(otherwise)
