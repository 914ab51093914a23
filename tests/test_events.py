"""The events and their bytes, kept for ever: a log of any earlier version must read the same.

The golden file has a line for each event: code, name, and a record with it alone. It is
rewritten only on purpose, with EVENTS_GOLDEN_REWRITE=1; lines may only be added.
"""

import os
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan import events as ev
from titan.model import Execution, IndexRange, Sandbox, ScriptSource
from titan.scheduling import (
    PLAIN_SCHEDULING,
    Dependency,
    DependencyCondition,
    JobAffinity,
    LabelConstraint,
    Scheduling,
)

GOLDEN = Path(__file__).parent / "golden" / "events-1.txt"
TIME_US = 1_800_000_000_123_456

SUBMITTED = ev.JobSubmitted(
    42, "ada", "Grüße", (b"echo", b"\xff\0", b""), b"/tmp", b"e" * 16, 1500, 1 << 40,
    (("gpu", 2), ("licence", 1)), -7, (IndexRange(0, 10, 3), IndexRange(11, 12, 1)),
    5_400_000, 500, 10, 60_000,
    Execution(umask=0o27, script_source=ScriptSource.SENT, interpreter=(b"bash", b"-\xff"),
              stdin=b"\xff/%i", stdout=b"\xfe", stderr=b"\xfd", run_as="batch",
              sandbox=Sandbox.BUBBLEWRAP, no_network=True,
              trace_parent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
              trace_state="vendor=x"),
    "w1",
    Scheduling(
        held=True,
        after=(Dependency(41), Dependency(7, DependencyCondition.ANY, 3)),
        retries=3, retry_on=(75, 1), array_limit=4, max_fails=0,
        constraints=(LabelConstraint("zone", ("a", "b")), LabelConstraint("old", ("",), True)),
        affinities=(JobAffinity(42), JobAffinity(40, True)), spread="rack", exclusive=True,
        preemptible=True, begin_us=TIME_US, deadline_us=TIME_US + 1, at_most_once=True,
    ),
)  # fmt: skip
# As it was written before jobs were traced.
UNTRACED = SUBMITTED._replace(
    execution=SUBMITTED.execution._replace(trace_parent="", trace_state="")
)
# As it was written before tasks could be isolated.
IN_THE_OPEN = UNTRACED._replace(
    execution=UNTRACED.execution._replace(run_as="", sandbox=Sandbox.NONE, no_network=False)
)
BEFORE = (*IN_THE_OPEN[:15], IN_THE_OPEN.execution[:10], *IN_THE_OPEN[16:])
# As it was written before jobs said more of when and where they start than a worker.
PLAIN_SUBMITTED = IN_THE_OPEN._replace(scheduling=PLAIN_SCHEDULING)

ENDED = ev.AttemptEnded(
    42, 7, 1, 5, 2, -1, 9, TIME_US, TIME_US + 1, 2, 3, 4 << 20, "killed", 1, TIME_US + 2, 1
)

STORED = ev.EnvironmentStored(
    b"e" * 16, ((b"PATH", b"/bin"),), ((b"A", b"\xff"), (b"B", b"")), b"#!/bin/sh\necho \xff\n",
    b"s" * 16, (b"TOKEN", b"\xff"),
)  # fmt: skip
# As it was written before there were secrets.
PLAIN_STORED = STORED._replace(secret_id=b"", secret_names=())

EXAMPLES: list[ev.Event] = [
    ev.ClusterCreated(bytes(range(16))),
    ev.ManagerStarted((1 << 64) - 1, "0.1.0"),
    SUBMITTED,
    ev.CancelRequested(42, (IndexRange(3, 5, 1),), 10_000, 2, "ada"),
    ev.TaskAssigned(42, 9_999_999, 2, 3, True, 1, 1, 0),
    ev.RecallRequested(42, 7, 1, "ada"),
    ev.Recalled(42, 7, 1),
    ev.TaskStarted(42, 7, 1, TIME_US),
    ENDED,
    ev.Adopted(42, 7, 1, TIME_US, takes_back_loss=True),
    ev.WorkerRegistered(
        3, b"w" * 16, b"i" * 16, "boot", "w1", "127.0.0.1:7", 8000, 1 << 34,
        (("gpu", 2),), (("zone", "a"),), "0.1.0", b"/out",
    ),
    ev.WorkerHeartbeats((1, 2, 300)),
    ev.WorkerHealthy(3),
    ev.WorkerUnhealthy(3, "its disk is nearly full"),
    ev.WorkerLost(3),
    ev.WorkerDraining(3, "new kernel", "ada", False),
    ev.WorkerUndrained(3, "", True),
    ev.WorkerDeregistered(3),
    STORED,
    ev.RequestAccepted("ada", b"r" * 16, b"c" * 16, 42, 3),
    ev.JobsForgotten((1, 42, 70_000)),
    ev.DelaysPassed(TIME_US),
    ev.DependencyFailed(42, (IndexRange(3, 5, 1),), 41),
    ev.DeadlinePassed(42, True),
    ev.JobHeld(42, "ada"),
    ev.JobReleased(42, "ada"),
    ev.JobUpdated(42, -3, 60_000, "ada"),
    ev.JobSuspended(42, "ada"),
    ev.JobResumed(42, "ada"),
    ev.AttemptSuspended(42, 7, 1, 43),
    ev.AttemptResumed(42, 7, 1),
    ev.Preempted(42, 7, 1, 43, 10_000, "ada"),
    ev.Reserved(3, 42),
    ev.ReservationLifted(3),
    ev.PolicySet("ada", 1, 4, True, 3, 60_000, (("", 4000), ("grace", 0))),
]  # fmt: skip

# As they were written before the class had the fields that are left out, and how they read now.
EARLIER: list[tuple[list[Any], ev.Event]] = [
    (
        [4, 42, (IndexRange(3, 5, 1),), 10_000],
        ev.CancelRequested(42, (IndexRange(3, 5, 1),), 10_000),
    ),
    (
        [4, 42, (IndexRange(3, 5, 1),), 10_000, 2],
        ev.CancelRequested(42, (IndexRange(3, 5, 1),), 10_000, 2),
    ),
    ([6, 42, 7, 1], ev.RecallRequested(42, 7, 1)),
    (
        [3, *SUBMITTED[:11]],
        PLAIN_SUBMITTED._replace(
            time_limit_ms=0,
            grace_ms=10_000,
            end_signal=0,
            end_signal_before_ms=0,
            execution=Execution(),
            on="",
        ),
    ),
    ([3, *BEFORE[:16]], PLAIN_SUBMITTED._replace(on="")),
    (
        [3, *SUBMITTED[:15], [0o27]],
        PLAIN_SUBMITTED._replace(execution=Execution(umask=0o27), on=""),
    ),
    ([3, *BEFORE[:17]], PLAIN_SUBMITTED),
    (
        [3, *BEFORE[:17], SUBMITTED.scheduling[:13]],
        IN_THE_OPEN._replace(scheduling=SUBMITTED.scheduling._replace(at_most_once=False)),
    ),
    ([3, *BEFORE], IN_THE_OPEN),
    ([3, *UNTRACED[:15], UNTRACED.execution[:13], *UNTRACED[16:]], UNTRACED),
    (
        [9, *ENDED[:13], 5],
        ENDED._replace(task_state=5, not_before_us=0, charge=ev.CHARGE_NOTHING),
    ),
    ([20, *STORED[:3]], PLAIN_STORED._replace(script=b"")),
    ([20, *STORED[:4]], PLAIN_STORED),
    ([14, 3], ev.WorkerUnhealthy(3, "")),
    ([10, 42, 7, 1, TIME_US], ev.Adopted(42, 7, 1, TIME_US)),
]


def golden_records() -> list[tuple[int, bytes, ev.Event]]:
    """The code, the bytes and what they read as, by code and then by age."""
    now = [
        (ev.CODE_OF_EVENT[type(each)], ev.encode_record(TIME_US, [each]), each) for each in EXAMPLES
    ]
    earlier = [(item[0], packed([TIME_US, [item]]), each) for item, each in EARLIER]
    return sorted([*earlier, *now], key=lambda record: record[0])


def golden_lines() -> list[str]:
    return [
        f"{code} {type(each).__name__} {payload.hex()}" for code, payload, each in golden_records()
    ]


def packed(record: Any) -> bytes:
    data: bytes = msgpack.packb(record)
    return data


def test_the_golden_file_is_rewritten_only_on_purpose() -> None:
    if os.environ.get("EVENTS_GOLDEN_REWRITE") != "1":
        assert GOLDEN.is_file()
        return
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text("\n".join(golden_lines()) + "\n", encoding="ascii")
    pytest.fail(f"rewritten: {GOLDEN}")


def test_every_event_is_written_as_the_same_bytes_as_ever() -> None:
    assert golden_lines() == GOLDEN.read_text(encoding="ascii").splitlines()


def test_every_golden_record_still_reads_as_the_same_event() -> None:
    lines = GOLDEN.read_text(encoding="ascii").splitlines()
    for line, (_, _, expected) in zip(lines, golden_records(), strict=True):
        code, _, payload = line.split()
        time_us, events = ev.decode_record(bytes.fromhex(payload))
        assert time_us == TIME_US
        assert events == [expected]
        assert type(events[0]) is ev.EVENT_OF_CODE[int(code)]


def test_there_is_an_example_of_every_event() -> None:
    assert {type(each) for each in EXAMPLES} == set(ev.EVENT_OF_CODE.values())
    assert len(EXAMPLES) == len(ev.EVENT_OF_CODE)


def test_codes_are_unique_and_every_event_has_one() -> None:
    kinds = set(ev.Event.__args__)
    assert kinds == set(ev.CODE_OF_EVENT)
    assert len(ev.EVENT_OF_CODE) == len(ev.CODE_OF_EVENT) == len(kinds)
    assert all(ev.EVENT_OF_CODE[code] is kind for kind, code in ev.CODE_OF_EVENT.items())


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda each: type(each).__name__)
def test_an_event_comes_back_equal_with_all_its_types(event: ev.Event) -> None:
    _, (back,) = ev.decode_record(ev.encode_record(TIME_US, [event]))
    assert type(back) is type(event)
    assert repr(back) == repr(event)
    assert hash(back) == hash(event), "nothing in it is a list"


@given(st.lists(st.sampled_from(EXAMPLES), max_size=8), st.integers(0, 1 << 62))
def test_a_record_comes_back_in_its_order(events: list[ev.Event], time_us: int) -> None:
    assert ev.decode_record(ev.encode_record(time_us, events)) == (time_us, events)


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda each: type(each).__name__)
def test_one_field_more_than_known_is_from_a_later_version(event: ev.Event) -> None:
    item = [ev.CODE_OF_EVENT[type(event)], *event, 0]
    with pytest.raises(ev.NewerEvent, match=type(event).__name__):
        ev.decode_record(packed([TIME_US, [item]]))


@pytest.mark.parametrize("code", [0, 36, 99, 1 << 40, -1])
def test_an_unknown_code_is_from_a_later_version(code: int) -> None:
    assert code not in ev.EVENT_OF_CODE
    with pytest.raises(ev.NewerEvent, match=f"code {code} "):
        ev.decode_record(packed([TIME_US, [[code, 1]]]))


def test_a_way_to_schedule_with_one_field_more_than_known_is_from_a_later_version() -> None:
    item = [3, *SUBMITTED[:17], [*SUBMITTED.scheduling, 0]]
    with pytest.raises(ev.NewerEvent, match="scheduling has 15 fields, this version knows 14"):
        ev.decode_record(packed([TIME_US, [item]]))


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda each: type(each).__name__)
def test_a_missing_field_is_an_error(event: ev.Event) -> None:
    required = len(event) - len(type(event)._field_defaults)
    item = [ev.CODE_OF_EVENT[type(event)], *event][:required]
    with pytest.raises(ev.EventError) as caught:
        ev.decode_record(packed([TIME_US, [item]]))
    assert type(caught.value) is ev.EventError


GARBAGE: list[tuple[str, bytes]] = [
    ("nothing", b""),
    ("text", b"hello"),
    ("a number", packed(7)),
    ("no time", packed([None, []])),
    ("a time that is a fraction", packed([1.5, []])),
    ("events that are a map", packed([1, {}])),
    ("events that are text", packed([1, ""])),
    ("an event that is a map", packed([1, [{}]])),
    ("an event that is a number", packed([1, [13]])),
    ("an event that is bytes", packed([1, [b"\x0d\x01"]])),
    ("an event that is text", packed([1, ["\r1"]])),
    ("an empty event", packed([1, [[]]])),
    ("a code that is a list", packed([1, [[[13], 1]]])),
    ("a code that is text", packed([1, [["13", 1]]])),
    ("a code that is true", packed([1, [[True, b"x"]]])),
    ("a code that is a fraction", packed([1, [[13.0, 1]]])),
    ("ranges that are a number", packed([1, [[4, 1, 7, 0]]])),
    ("ranges of too many numbers", packed([1, [[4, 1, [[1, 2, 3, 4]], 0]]])),
    ("three parts", packed([1, [], 2])),
    ("something after the end", packed([1, []]) + b"\0"),
]


@pytest.mark.parametrize("payload", [each for _, each in GARBAGE], ids=[n for n, _ in GARBAGE])
def test_garbage_is_an_error_and_not_a_later_version(payload: bytes) -> None:
    with pytest.raises(ev.EventError) as caught:
        ev.decode_record(payload)
    assert type(caught.value) is ev.EventError


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda each: type(each).__name__)
def test_a_record_that_ends_early_is_an_error_at_every_length(event: ev.Event) -> None:
    payload = ev.encode_record(TIME_US, [event])
    for length in range(len(payload)):
        with pytest.raises(ev.EventError):
            ev.decode_record(payload[:length])


@given(st.binary(max_size=60))
def test_any_bytes_are_a_record_or_an_event_error(payload: bytes) -> None:
    try:
        time_us, events = ev.decode_record(payload)
    except ev.EventError:
        return
    assert type(time_us) is int
    assert all(type(each) in ev.CODE_OF_EVENT for each in events)


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-9, 30) | st.binary(max_size=3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.integers(0, 3), inner),
    max_leaves=20,
))  # fmt: skip
def test_any_msgpack_is_a_record_or_an_event_error(value: Any) -> None:
    for payload in (packed(value), packed([1, value]), packed([1, [value]])):
        try:
            _, events = ev.decode_record(payload)
        except ev.EventError:
            continue
        assert all(type(each) in ev.CODE_OF_EVENT for each in events)
