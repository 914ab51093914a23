"""The frames between agent and host."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.builders import batch, key, launch
from titan.model import (
    Execution,
    HeldAttempt,
    HeldState,
    Reason,
    ReportKind,
    Sandbox,
    State,
    Stop,
    StopMode,
)
from titan.worker import protocol
from titan.worker.messages import Description, Report

REPORT = Report(
    *(7, ReportKind.ENDED, key(index=3), State.FAILED, Reason.SIGNAL, None, 11),
    *(1_000, 2_000, 30, 40, 4096, "killed by SIGSEGV (signal 11)"),
)
MESSAGES: list[protocol.Message] = [
    protocol.Hello(1, 0, "w1", "127.0.0.1:50051,[::1]:50051", 600_000),
    protocol.Hello(
        *(1, 4, "w1", "127.0.0.1:50051", 600_000, 5, b"/s"),
        (("gpu", ("0", "GPU-abc")), ("licence", None)),
    ),
    protocol.Hello(1, 7, "w1", "127.0.0.1:50051", 5, run_as_policy=b"/etc/titan/run-as.toml"),
    protocol.OfferDevices((("gpu", ("0",)), ("licence", None))),
    protocol.Cluster(b"\xff\x00"),
    protocol.StartTasks(
        batch(
            launch(b"\xff", "a b", cwd=b"/\xfe"),
            launch(time_limit_ms=90, grace_ms=8, end_signal=7, end_signal_before_ms=6),
            launch(named=(("gpu", 2), ("licence", 1))),
            launch(at_most_once=True),
            launch(traced=True, execution=Execution(trace_parent="00-1-2-01", trace_state="a=b")),
            launch(
                user="ada",
                execution=Execution(run_as="batch", sandbox=Sandbox.BUBBLEWRAP, no_network=True),
            ),
            indexes=[0, 9],
            chosen={b"A": b"\x80"},
        )
    ),
    protocol.StopTasks((Stop(key(), StopMode.RECALL, 0), Stop(key(2), StopMode.CANCEL, 10))),
    protocol.StopTasks(
        (
            Stop(key(), StopMode.SUSPEND, 0),
            Stop(key(), StopMode.RESUME, 0),
            Stop(key(), StopMode.LIMIT, 0, time_limit_ms=5),
        )
    ),
    protocol.Acknowledge(2**40),
    protocol.Leave(10_000),
    protocol.Lease(2**60),
    protocol.Welcome(
        *(1, 0, 123, b"I" * 16, b"C" * 16),
        (HeldAttempt(key(), HeldState.RUNNING, 5),),
        (REPORT, Report(8, ReportKind.STARTED, key(), start_us=5)),
        8,
        (key(-3),),
        "limits",
        7,
        (Sandbox.BUBBLEWRAP,),
    ),
    protocol.Refused(2, 1, 123, "no", True),
    protocol.Reports((REPORT,)),
    protocol.LeftAll(),
    protocol.StartDirect(3, batch(launch()).environments, (launch("a", cwd=b"/\xfe"),)),
    protocol.Describe(4, (key(), key(2)), None, 10),
    protocol.Describe(5, (), key(-3), 10),
    protocol.DirectStarted(3, (key(-3), key(-4)), "", False),
    protocol.Described(
        4,
        (
            Description(key(), HeldState.RUNNING, (b"a", b"\xff"), b"/", 7, 8, 9),
            Description(key(2), HeldState.ENDED, (), b"", end=REPORT),
        ),
        True,
    ),
    protocol.DirectEnded(key(-3)),
]


@pytest.mark.parametrize(
    "message",
    MESSAGES,
    ids=[f"{number}-{type(each).__name__}" for number, each in enumerate(MESSAGES)],
)
def test_a_message_arrives_as_it_was_sent(message: protocol.Message) -> None:
    (arrived,) = protocol.Decoder().feed(protocol.encode(message))
    assert arrived == message
    assert type(arrived) is type(message)


def test_messages_arrive_however_the_bytes_are_cut() -> None:
    content = b"".join(map(protocol.encode, MESSAGES))
    for size in (1, 2, 7, 100, len(content)):
        decoder = protocol.Decoder()
        arrived = [
            message
            for begin in range(0, len(content), size)
            for message in decoder.feed(content[begin : begin + size])
        ]
        assert arrived == MESSAGES


def test_one_message_may_be_taken_and_the_rest_later() -> None:
    decoder = protocol.Decoder()
    first = next(decoder.feed(protocol.encode(MESSAGES[0]) + protocol.encode(MESSAGES[1])))
    assert first == MESSAGES[0]
    assert list(decoder.feed(b"")) == [MESSAGES[1]]


def framed(value: object) -> bytes:
    payload: bytes = msgpack.packb(value)
    return struct.pack("<I", len(payload)) + payload


def test_what_only_a_newer_version_knows_is_passed_over() -> None:
    newer = framed([200, "unknown"]) + framed([5, 41, "a new last field"])
    assert list(protocol.Decoder().feed(newer)) == [protocol.Acknowledge(41)]


def test_a_launch_of_an_older_or_newer_agent_is_read_as_far_as_it_is_known() -> None:
    limits: dict[str, Any] = {
        "time_limit_ms": 90,
        "grace_ms": 8,
        "end_signal": 7,
        "end_signal_before_ms": 6,
    }
    known = launch(named=(("gpu", 2),), **limits)
    for fields, expected in [
        (known[:10], launch()),
        (known[:15], launch(**limits)),
        ((*known, "a new last field"), known),
    ]:
        older_or_newer = framed([3, [[[[], []]], [fields], [[0, 0, 1]], [[1, 1]]]])
        (message,) = protocol.Decoder().feed(older_or_newer)
        assert isinstance(message, protocol.StartTasks)
        assert message.batch.launches == (expected,)


def test_an_older_agent_says_nothing_of_devices() -> None:
    older = framed([1, 1, 3, "w1", "127.0.0.1:50051", 600_000, 0, b""])
    (message,) = protocol.Decoder().feed(older)
    assert isinstance(message, protocol.Hello)
    assert message.devices is None


def test_a_stop_of_an_older_or_newer_agent_is_read_as_far_as_it_is_known() -> None:
    known = Stop(key(), StopMode.LIMIT, 1, 2, 3)
    for fields, expected in [
        ((key(), 1, 500, 2), Stop(key(), StopMode.CANCEL, 500, 2)),
        ((*known, "a new last field"), known),
    ]:
        (message,) = protocol.Decoder().feed(framed([4, [fields, [key(), 99, 0]]]))
        # What mode 99 wishes only a newer host knows.
        assert message == protocol.StopTasks((expected,))


def test_a_welcome_of_a_host_that_starts_nothing_for_clients_is_read() -> None:
    older = framed([16, 1, 0, 123, b"I" * 16, b"C" * 16, [], [], 8])
    (message,) = protocol.Decoder().feed(older)
    assert message == protocol.Welcome(1, 0, 123, b"I" * 16, b"C" * 16, (), (), 8, ())


CODES = [*range(1, 12), *range(16, 24)]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(max_size=5)
    | st.binary(max_size=5) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=20,
)  # fmt: skip


@given(st.sampled_from(CODES), st.lists(ANYTHING, max_size=8))
def test_whatever_a_frame_holds_is_a_message_or_no_message(code: int, fields: list[Any]) -> None:
    with suppress(protocol.ProtocolError):
        list(protocol.Decoder().feed(framed([code, *fields])))


@given(st.sampled_from(MESSAGES), st.lists(st.tuples(st.integers(4, 1 << 12), st.integers(1, 255))))
def test_a_frame_with_damaged_bytes_is_a_message_or_no_message(
    message: protocol.Message, damage: list[tuple[int, int]]
) -> None:
    frame = bytearray(protocol.encode(message))
    for place, change in damage:
        frame[4 + place % (len(frame) - 4)] ^= change
    with suppress(protocol.ProtocolError):
        list(protocol.Decoder().feed(bytes(frame)))


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x00",
        b"\x01\x00\x00\x00\xc1",
        framed(5),
        framed([]),
        framed([5]),
        framed([3, 1]),
        framed([3, [[[[], []]], [launch()[:9]], [[0, 0, 1]], [[1, 1]]]]),
        framed([18, [[1, 99, [1, 1, 1, 1], None, 0, None, None, 0, 0, 0, 0, 0, ""]]]),
        framed([18, [[1, 1, [1, 1]]]]),
    ],
)
def test_what_cannot_be_read_is_an_error(content: bytes) -> None:
    with pytest.raises(protocol.ProtocolError):
        list(protocol.Decoder().feed(content))
