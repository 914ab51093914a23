"""Workflows in WfFormat, the JSON of the WfCommons project: a job for each of their tasks.

https://github.com/wfcommons/WfFormat tells of the format. In 1.4 `workflow.tasks` has all,
tasks name each other by `name`, and a dependency may be told at one of its ends only; from 1.5 on
`workflow.specification.tasks` has what waits for what, by `id` and at both ends, and
`workflow.execution.tasks` how a task was run. What a task read and wrote is not looked at: its
files are there already, or its program's business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Final, NamedTuple

from titan.client.jobspec import JobSpec
from titan.errors import InvalidJob
from titan.model import MEMORY_LIMIT_BYTES_MIN

_OLD: Final = ("1.4",)
_NEW: Final = ("1.5", "1.6")

Table = Mapping[str, Any]


class _Task(NamedTuple):
    """A task and how it was run; in old files both are the same object."""

    key: str
    name: str
    told: Table
    run: Table


def read_wfformat(text: bytes, directory: str) -> dict[str, JobSpec]:
    """The jobs by the ids of their tasks, in the order of the file. Raises InvalidJob."""
    try:
        document = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidJob(f"this is no JSON: {error}") from error
    version = document.get("schemaVersion") if isinstance(document, dict) else None
    if version not in (*_OLD, *_NEW):
        raise InvalidJob(
            f"this is no workflow in WfFormat of {_OLD[0]} to {_NEW[-1]}: its schemaVersion is "
            f"{json.dumps(version)}"
        )
    workflow = _table(document, "workflow")
    is_old = version in _OLD
    tasks = _old_tasks(workflow) if is_old else _new_tasks(workflow)
    parents = _parents(tasks, is_told_twice=not is_old)
    specs = {task.key: _spec(task, directory) for task in tasks.values()}
    for key, spec in specs.items():
        assert isinstance(spec.after, list)
        spec.after.extend(specs[parent] for parent in parents[key])
    return specs


def _old_tasks(workflow: Table) -> dict[str, _Task]:
    tasks: dict[str, _Task] = {}
    for each in _tables(workflow, "workflow", "tasks"):
        name = _name(each, "name", "a task of workflow.tasks")
        if name in tasks:
            raise InvalidJob(f"workflow.tasks has two tasks of the name {name}")
        tasks[name] = _Task(name, name, each, each)
    return tasks


def _new_tasks(workflow: Table) -> dict[str, _Task]:
    specification = _table(workflow, "specification")
    execution = _table(workflow, "execution") if "execution" in workflow else {}
    runs: dict[str, Table] = {}
    for each in _tables(execution, "workflow.execution", "tasks") if execution else ():
        key = _name(each, "id", "a task of workflow.execution.tasks")
        if key in runs:
            raise InvalidJob(f"workflow.execution.tasks has two tasks of the id {key}")
        runs[key] = each
    tasks: dict[str, _Task] = {}
    for each in _tables(specification, "workflow.specification", "tasks"):
        key = _name(each, "id", "a task of workflow.specification.tasks")
        if key in tasks:
            raise InvalidJob(f"workflow.specification.tasks has two tasks of the id {key}")
        tasks[key] = _Task(key, _name(each, "name", f"task {key}"), each, runs.pop(key, {}))
    for key in runs:
        raise InvalidJob(
            f"workflow.execution.tasks has a task {key}, which is not in "
            "workflow.specification.tasks"
        )
    return tasks


def _parents(tasks: Mapping[str, _Task], *, is_told_twice: bool) -> dict[str, list[str]]:
    """By task those that it waits for, each once. Raises InvalidJob."""
    parents = {key: _relatives(task, "parents", tasks) for key, task in tasks.items()}
    children = {key: _relatives(task, "children", tasks) for key, task in tasks.items()}
    if is_told_twice:
        _check_both_ends(tasks, parents, children)
    for key, own in children.items():
        for child in own:
            parents[child].setdefault(key)
    return {key: list(own) for key, own in parents.items()}


def _relatives(task: _Task, field: str, tasks: Mapping[str, _Task]) -> dict[str, None]:
    """In order, without repetitions."""
    named = task.told.get(field, [])
    if not isinstance(named, list) or not all(isinstance(each, str) for each in named):
        raise InvalidJob(f"task {task.key}: {field} is no list of tasks' ids")
    for each in named:
        if each not in tasks:
            raise InvalidJob(f"task {task.key}: {field} names {each}, and there is no such task")
    return dict.fromkeys(named)


def _check_both_ends(
    tasks: Mapping[str, _Task],
    parents: Mapping[str, dict[str, None]],
    children: Mapping[str, dict[str, None]],
) -> None:
    """That both ends tell the same, as far as both have the field."""
    for key, own in parents.items():
        for parent in own:
            if "children" in tasks[parent].told and key not in children[parent]:
                raise InvalidJob(
                    f"task {key} has the parent {parent}, which does not have it among its children"
                )
    for key, own in children.items():
        for child in own:
            if "parents" in tasks[child].told and key not in parents[child]:
                raise InvalidJob(
                    f"task {key} has the child {child}, which does not have it among its parents"
                )


def _spec(task: _Task, directory: str) -> JobSpec:
    cpus = task.run.get("coreCount", task.run.get("cores", 1))
    if not _is_number(cpus) or cpus <= 0:
        raise InvalidJob(f"task {task.key}: {json.dumps(cpus)} is no number of cpus")
    memory = task.run.get("memoryInBytes", 0)
    if not _is_number(memory) or memory < 0:
        raise InvalidJob(f"task {task.key}: {json.dumps(memory)} is no number of bytes")
    return JobSpec(
        command=_command(task),
        name=task.name,
        cwd=directory,
        cpus=cpus,
        # Less was measured of small programs, and would be too little for their start.
        memory=int(memory) if memory >= MEMORY_LIMIT_BYTES_MIN else 0,
        after=[],
    )


def _command(task: _Task) -> list[str]:
    command = task.run.get("command", {})
    if not isinstance(command, dict) or not command.get("program"):
        raise InvalidJob(
            f"task {task.key} has no command: Titan runs command.program with command.arguments"
        )
    words = [command["program"], *_list(command.get("arguments", []))]
    if not all(isinstance(word, str) for word in words):
        raise InvalidJob(f"task {task.key}: its command is not all text")
    return words


def _table(owner: Table, key: str) -> Table:
    value = owner.get(key)
    if not isinstance(value, dict):
        raise InvalidJob(f"this is no workflow in WfFormat: it has no {key}")
    return value


def _tables(owner: Table, place: str, key: str) -> Sequence[Table]:
    value = owner.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(e, dict) for e in value):
        raise InvalidJob(f"this is no workflow in WfFormat: {place}.{key} is no list of tasks")
    return value


def _name(task: Table, key: str, where: str) -> str:
    value = task.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidJob(f"{where} has no {key}")
    return value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _refuse(word: str) -> float:
    """What Python would read, and JSON has not: NaN, Infinity."""
    raise ValueError(f"{word} is no number")
