"""FLOW.toml: `[defaults]`, and a `[job.NAME]` for each job, with the options of `titan submit`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from titan.client.dependencies import SELF, After, NamedJob, Waited, parse_after
from titan.client.flow_keys import KEYS, fields_of
from titan.client.jobspec import JobSpec
from titan.client.names import parse_job
from titan.errors import InvalidJob

# They say what one job is, and cannot be the same for all.
_NOT_FOR_ALL: Final = ("command", "shell", "script", "worker_script", "name")
_NAMED_BY: Final = "a job that was submitted before is named by its number, last or name:NAME"
# What an `after` could take for something else.
_NO_NAME: Final = re.compile(rf"last|name|{SELF}|[0-9.]+|.*[:\s].*|", re.DOTALL)
_TASK: Final = re.compile(r"(.+)\.([0-9]{1,10})", re.DOTALL)
_NAMING: Final = ("after", "affinity", "anti_affinity")


def read_toml(text: bytes, directory: str) -> dict[str, JobSpec]:
    """The jobs by their names, in the order of the file. Raises InvalidJob."""
    try:
        document = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidJob(f"this is no TOML: {error}") from error
    for key in document:
        if key not in {"defaults", "job"}:
            raise InvalidJob(_unknown(f"[{key}]", key, ("defaults", "job")))
    tables = document.get("job", {})
    if not isinstance(tables, dict) or not tables:
        raise InvalidJob("there are no jobs: a job begins with [job.NAME]")
    defaults = _fields("[defaults]", document.get("defaults", {}), directory)
    for key in _NOT_FOR_ALL:
        if key in document.get("defaults", {}):
            raise InvalidJob(f"[defaults]: {key} says what one job is: put it below its [job.NAME]")
    named: dict[str, dict[str, Any]] = {}
    specs: dict[str, JobSpec] = {}
    for name, table in tables.items():
        fields = _merged(defaults, _job_fields(name, table, directory))
        # Filled once all the jobs are there that they may name.
        named[name] = {key: fields[key] for key in _NAMING if key in fields}
        fields.update((key, []) for key in named[name])
        fields.setdefault("name", name)
        fields.setdefault("cwd", directory)
        specs[name] = JobSpec(**fields)
    for name, wanted in named.items():
        _name_jobs(name, specs, wanted)
    return specs


def _job_fields(name: str, table: Any, directory: str) -> dict[str, Any]:
    if _NO_NAME.fullmatch(name):
        raise InvalidJob(
            f"job {name!r}: in this file a job's name has no : and no blank in it, and is not "
            "last, name, self or a number; `name` may say what to call it elsewhere"
        )
    fields = _fields(f"job {name}", table, directory)
    if "command" in table and "shell" in table:
        raise InvalidJob(f"job {name}: it has a command and a line of shell: one is too many")
    if not any(key in table for key in ("command", "shell", "script", "worker_script")):
        raise InvalidJob(
            f'job {name}: it does not say what to run: add command = ["python", "x.py"], or '
            'shell = "cat x | wc", or script'
        )
    return fields


def _fields(where: str, table: Any, directory: str) -> dict[str, Any]:
    """The fields of a JobSpec that a table of keys says. Raises InvalidJob."""
    if not isinstance(table, dict):
        raise InvalidJob(f"{where}: it is no table, which begins with [defaults] or [job.NAME]")
    fields: dict[str, Any] = {}
    for key, value in table.items():
        if key not in KEYS:
            raise InvalidJob(_unknown(where, key, KEYS))
        try:
            fields.update(fields_of(key, value, directory))
        except (InvalidJob, ValueError) as error:
            raise InvalidJob(f"{where}: {key}: {error}") from error
    return fields


def _unknown(where: str, key: str, known: Iterable[str]) -> str:
    what = "is not known" if where.startswith("[") and key in where else f"{key!r} is not known"
    close = get_close_matches(key, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
    return f"{where}: {what}; {hint}"


def _merged(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What a job says wins; of tables each entry counts by itself."""
    merged = {**defaults, **own}
    for key, value in own.items():
        if isinstance(value, dict) and key in defaults:
            merged[key] = {**defaults[key], **value}
    return merged


def _name_jobs(name: str, specs: Mapping[str, JobSpec], wanted: Mapping[str, Any]) -> None:
    """Fills the lists of the jobs that this one names."""
    spec = specs[name]
    for key, given in wanted.items():
        find = _after if key == "after" else _near
        jobs = getattr(spec, key)
        assert isinstance(jobs, list)
        try:
            jobs.extend(find(each, specs) for each in given)
        except (InvalidJob, ValueError) as error:
            raise InvalidJob(f"job {name}: {key}: {error}") from error


def _after(given: str | int, specs: Mapping[str, JobSpec]) -> Waited:
    if isinstance(given, int):
        return given
    if given in specs:
        return After(specs[given])
    after = parse_after(given)
    job, index = after.job, after.index
    assert isinstance(job, str)
    if job not in specs and (match := _TASK.fullmatch(job)) and match[1] in specs:
        job, index = match[1], int(match[2])
    return After(_find(job, specs), after.condition, index, after.same_index)


def _near(given: str | int, specs: Mapping[str, JobSpec]) -> NamedJob:
    if isinstance(given, int) or given == SELF:
        return given
    return _find(given, specs)


def _find(job: str, specs: Mapping[str, JobSpec]) -> NamedJob:
    """A job of the file, else one that was submitted before. Raises InvalidJob."""
    if job in specs:
        return specs[job]
    try:
        parse_job(job, "")
    except ValueError as error:
        close = get_close_matches(job, specs, n=1)
        hint = f"did you mean {close[0]}?" if close else _NAMED_BY
        raise InvalidJob(f"there is no job {job!r} in this file; {hint}") from error
    return job
