"""Nothing that others named speaks to the terminal of who looks at it, whatever command he uses.

The manager of these tests answers every command with hostile text in each field that holds text,
also in fields that a later version adds.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor

from tests.cli.conftest import Titan
from tests.client.fake_manager import PAST_LSN, FakeManager, array_of, wait_for_answers
from tests.waltools.builders import history, make_directory
from titan import events as ev
from titan.cli.group import COMMANDS
from titan.rpc.v1 import history_pb2, manager_pb2, types_pb2

# A cleared screen, a clipboard, a line that is overwritten, a column that is broken, text that is
# turned around, other ends of lines, an 8-bit control sequence, a mark of the byte order.
HOSTILE = "\x1b[2J\x1b]52;c;aGFoYQ==\x07a\rb\x08\x7f\u202ec\u2028d\x9b31me\nf\ufeff\x00\u2066"
# Both sides look for these.
_KEPT = {"event", "placement", "order", "preempt"}
_SERVICE = manager_pb2.DESCRIPTOR.services_by_name["ManagerService"]
# These run for long; `dev` has a test of its own for what it prints of jobs.
SERVERS = {"dev", "manager", "worker", "web"}

# No argument of a program holds a zero byte.
WORD = HOSTILE.replace("\0", "")
COMMAND_LINES = [
    ("queue", "--all"),
    ("queue", "--name", WORD),
    ("show", "1"),
    ("show", "2"),
    ("show", "2.1"),
    ("show", "1", "--events"),
    ("show", "1", "--at", str(PAST_LSN)),
    ("show", f"name:{WORD}"),
    ("show", WORD),
    ("why", "1"),
    ("plan", "true"),
    ("plan", "--name", WORD, "true"),
    ("submit", "--name", WORD, WORD),
    ("submit", "--constraint", WORD, "true"),
    ("submit", "--file", "FLOW"),
    ("submit", "--file", "WRONG"),
    ("run", "--name", WORD, "true"),
    ("wait", "3"),
    ("wait", "3", WORD),
    ("logs", "3"),
    ("logs", "2"),
    ("hold", "1"),
    ("release", "1"),
    ("suspend", "1"),
    ("resume", "1"),
    ("update", "--priority", "1", "1"),
    ("requeue", "1"),
    ("requeue", "3"),
    ("cancel", "1"),
    ("cancel", "3"),
    ("workers",),
    # Of what it draws on a terminal: `test_top_screen.py`.
    ("top",),
    ("drain", "w1", "--reason", WORD),
    ("drain", WORD),
    ("undrain", "w1"),
    ("policy",),
    ("policy", "--user-limit", f"{WORD}=2"),
    ("stats",),
    ("stats", "--last", "hour"),
    ("history",),
    ("history", "--columns", "detail,reason,stdout_path,source"),
    ("history", "--totals", "user"),
    ("history", "--most-failing"),
    ("history", "--user", WORD),
    ("wal", "dump", "LOG"),
    ("wal", "dump", "LOG", "--pretty"),
    ("wal", "stat", "LOG"),
    ("wal", "verify", "LOG"),
    ("wal", "dump", "LOG", "--event", WORD),
    ("wal", "backup", "LOG", "BACKUP"),
    ("simulate", WORD + ".swf"),
    (WORD,),
    ("queue", f"--{WORD}"),
]


def poison(message: Any) -> Any:
    """The message with hostile text behind, or in place of, each text that it has."""
    for field in message.DESCRIPTOR.fields:
        kind = field.cpp_type
        if field.name in _KEPT:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _poison_map(getattr(message, field.name), field)
        elif kind == FieldDescriptor.CPPTYPE_MESSAGE:
            if field.is_repeated:
                for each in getattr(message, field.name):
                    poison(each)
            elif message.HasField(field.name):
                poison(getattr(message, field.name))
        elif kind == FieldDescriptor.CPPTYPE_STRING:
            _poison_text(message, field)
    return message


def _poison_text(message: Any, field: FieldDescriptor) -> None:
    is_bytes = field.type == FieldDescriptor.TYPE_BYTES
    hostile: Any = HOSTILE.encode() if is_bytes else HOSTILE
    value = getattr(message, field.name)
    if field.name == "fields":
        message.fields = json.dumps({**json.loads(value), HOSTILE: HOSTILE, "reason": HOSTILE})
    elif field.name == "data":
        # What jobs write passes as it is.
        return
    elif field.is_repeated:
        value[:] = [*(each + hostile for each in value), hostile]
    else:
        setattr(message, field.name, value + hostile)


def _poison_map(entries: Any, field: FieldDescriptor) -> None:
    assert field.message_type is not None
    key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
    if key.cpp_type == FieldDescriptor.CPPTYPE_STRING and value.message_type is None:
        is_text = value.cpp_type == FieldDescriptor.CPPTYPE_STRING
        entries[HOSTILE] = HOSTILE if is_text else 1


class HostileManager(FakeManager):
    """Does what it is asked, and answers with hostile text."""


def _hostile(answer: Any) -> Any:
    if inspect.isgeneratorfunction(answer):

        def stream(self: FakeManager, request: Any, context: Any) -> Iterator[Any]:
            for each in answer(self, request, context):
                yield poison(_copy(each))

        return stream

    def call(self: FakeManager, request: Any, context: Any) -> Any:
        return poison(_copy(answer(self, request, context)))

    return call


def _copy(message: Any) -> Any:
    return type(message).FromString(message.SerializeToString())


for _method in _SERVICE.methods:
    setattr(HostileManager, _method.name, _hostile(getattr(FakeManager, _method.name)))


def end_at_once(manager: FakeManager) -> None:
    """What is submitted runs and fails."""

    def run(job: manager_pb2.Job) -> None:
        manager.run(job)
        manager.end(job, exit_code=1, detail=HOSTILE)

    manager.on_submit = run


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileManager]:
    """With a job that waits, an array that failed, one that is over, and a worker."""
    wait_for_answers(monkeypatch)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with HostileManager(tmp_path / "manager") as manager:
        monkeypatch.setenv("TITAN_MANAGER", manager.address)
        manager.add_job(waiting_for="")
        array = manager.add_job(array=array_of((0, 2)))
        for index in range(2):
            manager.run(array, index)
            manager.write(array, b"line\n", index, err=True)
            manager.end(array, index, exit_code=1, detail="x")
        over = manager.add_job()
        manager.run(over)
        manager.write(over, b"what it wrote\n")
        manager.end(over)
        manager.workers.append(
            manager_pb2.Worker(
                worker_id=b"w" * 16, name="w1", state=types_pb2.HEALTHY, labels={"zone": "a"},
                capacity=types_pb2.Resources(cpus_milli=1000, named={"gpu": 1}),
            )
        )  # fmt: skip
        manager.history.append(
            history_pb2.GetHistoryResponse(
                lsn=9,
                attempts=[history_pb2.HistoryAttempt(job_id=1, detail="x", source="titan")],
                totals=[history_pb2.HistoryTotal(name="u", attempts=1)],
                most_failing=[history_pb2.HistoryFailing(failed=1)],
                usage=history_pb2.HistoryUsage(
                    until=9, ended=[1], failed=[0], busy_cpus=[1], cpus=[1], waiting_tasks=[0]
                ),
            )
        )
        events = [("JobSubmitted", '{"job_id": 1}'), ("JobHeld", '{"user": "u"}')]
        manager.events.append(
            manager_pb2.GetEventsResponse(
                events=[
                    manager_pb2.Event(lsn=lsn, time_us=lsn, event=event, fields=fields)
                    for lsn, (event, fields) in enumerate(events, 1)
                ],
                lsn=2,
            )
        )
        manager.explanation.CopyFrom(
            manager_pb2.Explanation(
                state=types_pb2.PENDING, verdict=manager_pb2.VERDICT_LATER, sentence="no room",
                waiting_for=["x"], workers=2,
                turned_away=[manager_pb2.WorkersTurnedAway(workers=1, why="y")],
            )
        )  # fmt: skip
        end_at_once(manager)
        yield manager


def check_harmless(text: str) -> None:
    """Whether nothing of it but a new line or a tab is for the terminal itself."""
    found = {each for each in text if each not in "\n\t" and not each.isprintable()}
    assert not found, (found, text)


def hostile_history() -> tuple[bytes, ...]:
    """Records of a cluster whose jobs and workers are called so."""

    def renamed(event: ev.Event) -> ev.Event:
        if isinstance(event, ev.JobSubmitted):
            words = tuple(word + HOSTILE.encode() for word in event.command)
            return event._replace(name=HOSTILE, user=HOSTILE, command=words)
        return event._replace(name=HOSTILE) if isinstance(event, ev.WorkerRegistered) else event

    records = map(ev.decode_record, history())
    return tuple(ev.encode_record(time_us, list(map(renamed, each))) for time_us, each in records)


def lay_out_files(directory: Path) -> dict[str, str]:
    """What command lines name, by the word that stands for it there."""
    flow, wrong = directory / "flow.toml", directory / "wrong.toml"
    quoted = json.dumps(HOSTILE.replace("\x7f", ""))
    flow.write_text(f'[job.a]\ncommand = ["true"]\nname = {quoted}\n')
    wrong.write_text(f'[job.a]\ncommand = ["true"]\n{quoted} = {quoted}\n')
    log = make_directory(directory / "log", hostile_history())
    return {
        "FLOW": str(flow), "WRONG": str(wrong), "LOG": str(log),
        "BACKUP": str(directory / f"backup{HOSTILE[:4]}"),
    }  # fmt: skip


@pytest.mark.parametrize("line", COMMAND_LINES, ids=lambda line: ascii(" ".join(line))[1:30])
def test_no_command_passes_on_what_a_terminal_acts_upon(
    hostile: HostileManager, titan: Titan, tmp_path: Path, line: tuple[str, ...]
) -> None:
    files = lay_out_files(tmp_path)
    result = titan(*(files.get(word, word) for word in line))
    assert result.out or result.err
    check_harmless(result.out)
    check_harmless(result.err)


def test_every_command_is_among_them() -> None:
    # What is in certificates and tokens is checked where it is read: letters and digits.
    # And what `journal` tells of, databases and directories, is named by who calls it.
    others = SERVERS | {"completion", "certs", "journal", "token"}
    assert {line[0] for line in COMMAND_LINES} >= set(COMMANDS) - others


@pytest.mark.parametrize(
    ("method", "line"),
    [
        ("ListJobs", ("queue",)),
        ("GetJobStatus", ("show", "1")),
        ("SubmitJob", ("submit", "true")),
        ("CancelJob", ("cancel", "1")),
        ("ExplainJob", ("why", "1")),
        ("ListWorkers", ("workers",)),
        ("StreamOutput", ("logs", "3")),
        ("GetHistory", ("history",)),
    ],
)
def test_no_sentence_of_a_manager_passes_on_what_a_terminal_acts_upon(
    hostile: HostileManager, titan: Titan, method: str, line: tuple[str, ...]
) -> None:
    # The text of a status can't hold a zero byte.
    hostile.fail(method, grpc.StatusCode.FAILED_PRECONDITION, HOSTILE.replace("\0", ""))
    result = titan(*line)
    assert "\\x1b[2J" in result.err
    check_harmless(result.out)
    check_harmless(result.err)


def test_a_script_is_its_bytes_for_a_pipe_and_text_on_a_terminal(
    manager: FakeManager, titan: Titan, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = manager.add_job()
    manager.scripts[job.job_id] = f"#!/bin/sh\n\techo {HOSTILE}\n".encode()
    assert titan("show", "1", "--script").out.encode() == manager.scripts[job.job_id]
    monkeypatch.setattr("titan.cli.show.is_terminal", lambda _: True)
    shown = titan("show", "1", "--script").out
    check_harmless(shown)
    assert shown.startswith("#!/bin/sh\n\techo \\x1b[2J")


@pytest.mark.parametrize("line", [("queue", "--all"), ("workers",), ("show", "2")])
def test_on_a_terminal_only_colours_are_for_it(
    hostile: HostileManager, titan: Titan, line: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("text", "table"):
        monkeypatch.setattr(f"titan.cli.{module}.is_terminal", lambda _: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    result = titan(*line)
    coloured = re.sub(r"\x1b\[\d+m", "", result.out)
    assert coloured != result.out
    check_harmless(coloured)
