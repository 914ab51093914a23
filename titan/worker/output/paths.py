"""Where the output of attempts lies on a worker. Pure."""

from __future__ import annotations

from titan.model import AttemptKey


def output_path(directory: bytes, key: AttemptKey, suffix: bytes) -> bytes:
    """Where an attempt's output is; `suffix` is out or err. Only integers go into it."""
    return attempt_path(directory, key.job_id, key.index, key.attempt) + suffix


def output_folder(directory: bytes, job_id: int, index: int) -> bytes:
    """The folder that the output of a task's attempts is in."""
    return b"%s/%d/%d" % (directory, job_id, index // 1000)


def attempt_path(directory: bytes, job_id: int, index: int, attempt: int) -> bytes:
    """How the paths of an attempt's output begin, up to the dot before the suffix."""
    return b"%s/%d.%d." % (output_folder(directory, job_id, index), index, attempt)
