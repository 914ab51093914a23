"""Many jobs in one file: `titan submit --file`, and `titan.read_flow` for Python.

A FLOW.toml says each job by the options of `titan submit` (`flow_toml.py`); a file of JSON is a
workflow in WfFormat (`wfformat.py`). Here is what both have in common.
"""

from __future__ import annotations

import os
from typing import Final

from titan import units
from titan.client.dependencies import References, positions_waited_for
from titan.client.flow_toml import read_toml
from titan.client.jobspec import JobSpec, environment_of, name_jobs, to_message
from titan.client.order import check_order
from titan.client.submission import JOBS_MAX
from titan.client.wfformat import read_wfformat
from titan.errors import InvalidJob

# Ten thousand tasks with all that WfFormat tells of them are some ten megabytes.
FLOW_BYTES_MAX: Final = 128 * 1024 * 1024


def read_flow(path: str | os.PathLike[str]) -> dict[str, JobSpec]:
    """The jobs of a file by their names in it, in its order, as `submit_many` takes them.

    They name each other as objects, so all of them have to be submitted together. Relative paths
    in the file start at its directory. Raises InvalidJob, which names the file, the job and the
    key that is wrong.
    """
    shown = os.fspath(path)
    try:
        text = _read(path)
        directory = os.path.dirname(os.path.abspath(path))
        is_json = shown.endswith(".json") or text.lstrip()[:1] == b"{"
        specs = (read_wfformat if is_json else read_toml)(text, directory)
        if len(specs) > JOBS_MAX:
            raise InvalidJob(f"{len(specs):,} jobs; {JOBS_MAX:,} in one file are the most")
        _check(specs)
    except InvalidJob as error:
        raise InvalidJob(f"{shown}: {error}") from error
    return specs


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        with open(path, "rb") as file:
            text = file.read(FLOW_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise InvalidJob(f"the file cannot be read: {reason}") from error
    if len(text) > FLOW_BYTES_MAX:
        raise InvalidJob(f"the file is larger than {units.format_size(FLOW_BYTES_MAX)}")
    return text


def _check(specs: dict[str, JobSpec]) -> None:
    """Every job by itself, and that none waits for itself. Raises InvalidJob."""
    positions = {id(spec): position for position, spec in enumerate(specs.values())}
    waits_for = []
    for own, (name, spec) in enumerate(specs.items()):
        try:
            message = to_message(spec)
            name_jobs(message, spec, References("", positions, own))
            environment_of(spec, {})
        except InvalidJob as error:
            raise InvalidJob(f"job {name}: {error}") from error
        waits_for.append(positions_waited_for(message))
    check_order(list(specs), waits_for)
