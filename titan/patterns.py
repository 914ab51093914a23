"""File names that users give for all tasks of a job, with what tells these apart in them.

Pure. `titan.checks.check_pattern` has refused any other sign behind a %.
"""

from __future__ import annotations

import re
from typing import Final

from titan.model import AttemptKey

_SIGN: Final = re.compile(rb"%([jina%])")


def expand(pattern: bytes, key: AttemptKey, job_name: str) -> bytes:
    """The name for one attempt: %j is its job, %i its index, %a its attempt, %n the job's name.

    In that name a slash becomes an underscore, and so does each dot where there is nothing else: it
    leads into no other directory. %% is a %.
    """
    if b"%" not in pattern:
        return pattern
    values = {
        b"j": b"%d" % key.job_id,
        b"i": b"%d" % key.index,
        b"a": b"%d" % key.attempt,
        b"n": _as_file_name(job_name.encode(errors="surrogateescape")),
        b"%": b"%",
    }
    return _SIGN.sub(lambda found: values[found[1]], pattern)


def _as_file_name(name: bytes) -> bytes:
    return name.replace(b"/", b"_") if name.strip(b".") else b"_" * len(name)
