"""Snapshots of the state: invariant 5, what a damaged one says, and the format for ever."""

from __future__ import annotations

import os
from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.manager.kernel import story
from tests.state.builders import ENVIRONMENT, T0, Story
from tests.state.test_digest import scheduled_story
from tests.state.test_digest import story as something_of_everything
from titan import events as ev
from titan.model import Resources, State
from titan.state import ClusterState, check_invariants, digest
from titan.state import snapshot as snapshot_module
from titan.state.job_class import ClassKey, JobClass
from titan.state.packed_job import pack_job, unpack_job
from titan.state.replay import replay
from titan.state.snapshot import SnapshotError, decode_state, encode_state, read_head

GOLDEN = Path(__file__).parent.parent / "golden"


def blocks_of(state: ClusterState) -> list[bytes]:
    return list(encode_state(state, "0.1.0"))


@pytest.fixture(scope="module")
def records() -> list[tuple[int, bytes]]:
    return list(enumerate(story.tell().records, 1))


@pytest.fixture(scope="module")
def whole(records: list[tuple[int, bytes]]) -> str:
    state = ClusterState()
    replay(records, state)
    return digest(state)


def test_a_snapshot_at_every_lsn_is_the_state_there_invariant_5(
    records: list[tuple[int, bytes]],
) -> None:
    state = ClusterState()
    for record in records:
        replay([record], state)
        again = decode_state(blocks_of(state))
        if record[0] % 10 == 0:
            check_invariants(again)
            assert digest(again) == digest(state)
        # What is made of a snapshot makes the same one again, to the byte.
        assert blocks_of(again) == blocks_of(state)


@settings(max_examples=30)
@given(st.data())
def test_a_snapshot_and_the_tail_are_the_whole_invariant_5(
    records: list[tuple[int, bytes]], whole: str, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(records)), min_size=1, max_size=4)))
    state, done = ClusterState(), 0
    for cut in cuts:
        replay(records[done:cut], state)
        state.jobs.pack_ended(data.draw(st.integers(0, 50)))
        state, done = decode_state(blocks_of(state)), cut
    replay(records[done:], state)
    assert digest(state) == whole


def test_orders_that_only_the_past_could_tell_are_kept() -> None:
    built = Story()
    built.worker(cpus_milli=9000)
    for _ in range(2):
        built.job((0, 9))
    for job_id, index in ((2, 5), (1, 7), (2, 1), (1, 0)):
        built.assign(job_id, index)
    built.job(cpus_milli=1)
    built.assign(3)
    again = decode_state(blocks_of(built.state))
    assert list(again.get_job(1).active) == [7, 0]
    worker = again.get_worker(1)
    assert list(worker.attempts) == [(2, 5), (1, 7), (2, 1), (1, 0), (3, 0)]
    assert list(worker.classes) == [1, 2]
    assert list(worker.classes[1].unstarted) == [(2, 5), (1, 7), (2, 1), (1, 0)]
    assert worker.attempts[1, 7] is again.get_job(1).active[7]
    assert worker.classes[1].unstarted[1, 7] is again.get_job(1).active[7]


def test_a_job_too_large_for_a_block_goes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_module, "_PIECE_BYTES", 200)
    built = something_of_everything()
    for _ in range(3):
        built.apply(ev.CancelRequested(built.job(), (), 0))
    blocks = blocks_of(built.state)
    kinds = [msgpack.unpackb(block)[0] for block in blocks]
    assert kinds.count("piece") >= 2
    assert digest(decode_state(blocks)) == digest(built.state)


def test_the_head_tells_where_it_stands_by_itself() -> None:
    state = something_of_everything().state
    head = read_head(blocks_of(state)[0])
    assert head == ("0.1.0", state.lsn, state.time_us, state.next_job_id)


def test_another_format_is_refused_by_name() -> None:
    kind, fields = msgpack.unpackb(blocks_of(ClusterState())[0])
    block = msgpack.packb([kind, [4, "9.9", *fields[2:]]])
    with pytest.raises(SnapshotError, match=r"format 4 and was written by Titan 9\.9"):
        decode_state([block])


@settings(max_examples=200)
@given(st.data())
def test_blocks_that_are_lost_doubled_or_spoilt_are_an_error(data: st.DataObject) -> None:
    blocks = blocks_of(something_of_everything().state)
    at = data.draw(st.integers(0, len(blocks) - 1))
    how = data.draw(st.sampled_from(["lost", "cut", "spoilt", "not msgpack", "end first"]))
    if how == "lost":
        del blocks[at]
    elif how == "cut":
        blocks = blocks[:at]
    elif how == "spoilt":
        blocks[at] = msgpack.packb(["live", [[1], [data.draw(st.binary(min_size=1))]]])
    elif how == "not msgpack":
        blocks[at] = blocks[at][: data.draw(st.integers(0, len(blocks[at]) - 1))]
    else:
        blocks = [blocks[0], blocks[-1], *blocks[1:-1]]
    try:
        state = decode_state(blocks)
    except SnapshotError:
        return
    # Requests and environments are not counted; whatever else is wrong must be found.
    assert how == "lost"
    assert len(state.jobs) == 4
    assert len(state.workers) == 2


def test_a_packed_array_keeps_what_its_tasks_ended_with() -> None:
    built = Story()
    built.worker()
    built.job((0, 2), user="grace", priority=3)
    for index in (0, 1):
        built.assign(1, index)
        built.end(1, index, State.FAILED, exit_code=index + 1, detail=f"because {index}")
    job = built.state.get_job(1)
    again = unpack_job(pack_job(job), {job.job_class.class_id: job.job_class})
    assert (again.user, again.priority, again.demand) == ("grace", 3, job.demand)
    assert again.state is State.FAILED
    assert again.lowest_failed == (0, 1)
    assert list(again.ended or ()) == list(job.ended or ())
    assert again.ended is not None
    assert again.ended.detail(1, 1) == "because 1"


def test_packed_or_not_an_ended_job_looks_the_same() -> None:
    built = Story()
    built.worker()
    for _ in range(5):
        built.job()
    for job_id in (3, 1, 5):
        built.assign(job_id)
        built.end(job_id, end_us=T0 + job_id)
    jobs = built.state.jobs
    before = digest(built.state)
    packed = {job_id: pack_job(jobs[job_id]) for job_id in jobs}
    assert jobs.pack_ended(2) == 2
    assert jobs.pack_ended(9) == 1
    assert jobs.pack_ended(9) == 0
    assert digest(built.state) == before
    assert {job_id: pack_job(jobs[job_id]) for job_id in jobs} == packed
    assert list(jobs.ended_ids()) == [3, 1, 5]
    assert list(jobs) == [1, 2, 3, 4, 5]
    assert list(jobs.ids.irange(2, 4, reverse=True)) == [4, 3, 2]
    check_invariants(built.state)
    built.apply(ev.JobsForgotten((1,)))
    built.assign(2)
    built.end(2)
    assert jobs.pack_ended(9) == 1
    assert list(jobs.ended_ids()) == [3, 5, 2]


def test_a_forgotten_job_is_told_from_one_that_never_was() -> None:
    built = Story()
    built.worker()
    environment = b"f" * 16
    built.apply(ev.EnvironmentStored(environment, (), ((b"A", b"1"),)))
    job_id = built.job(user="grace", cpus_milli=2000)
    own = ev.JobSubmitted(2, "ada", "true", (b"true",), b"/", environment, 1000, 0, (), 0, ())
    built.apply(own)
    assert set(built.state.classes) == {1, 2}
    for each in (1, 2):
        built.assign(each, worker=1)
        built.end(each)
    built.apply(ev.JobsForgotten((job_id, 2)))
    state = built.state
    assert not state.jobs
    assert state.is_forgotten(1)
    assert not state.is_forgotten(3)
    assert not state.is_forgotten(0)
    assert state.task_counts == state.job_counts == [0] * 6
    # What nobody refers to goes with the job; a class that comes back has a new number.
    assert not state.classes
    assert environment not in state.environments
    assert state.last_job_of == {"grace": 1, "ada": 2}
    built.apply(ev.EnvironmentStored(environment, (), ()), own._replace(job_id=3))
    assert set(state.classes) == {3}


def golden(name: str) -> ClusterState:
    lines = (GOLDEN / name).read_text(encoding="ascii").split()
    state = decode_state(bytes.fromhex(line) for line in lines)
    check_invariants(state)
    return state


def test_a_golden_snapshot_of_format_1_still_reads() -> None:
    """All is as the events have it, but for the time limits of the classes.

    In format 1 a class had none: its jobs know theirs, and no decision looked at them. Whoever
    takes such a snapshot up has these classes until their jobs are forgotten.
    """
    state = golden("snapshot-1.txt")
    expected = something_of_everything().state
    assert digest(state) != digest(expected)
    limited = expected.classes[1]
    assert limited.limit_ms == 95_000
    limited.limit_ms, limited.key = 0, limited.key._replace(limit_ms=0)
    worker = expected.get_worker(1)
    worker.limited = 0
    for attempt in worker.attempts.values():
        attempt.limit_ms = 0
    # Format 1 did not write down since when an attempt runs: it counts from the assignment.
    running = worker.attempts[1, 0]
    running.since_us = running.assigned_us
    assert digest(state) == digest(expected)


def test_an_environment_with_secrets_is_read_as_it_was_written() -> None:
    built = Story()
    secret = ev.EnvironmentStored(
        b"s" * 16, ((b"PATH", b"/bin"),), ((b"A", b"1"),), b"#!/bin/sh\n", b"f" * 16, (b"TOKEN",)
    )
    job = ev.JobSubmitted(1, "ada", "true", (b"true",), b"/", secret.digest, 1000, 0, (), 0, ())
    built.apply(secret, job)
    state = decode_state(blocks_of(built.state))
    assert state.environments[secret.digest] == secret
    assert digest(state) == digest(built.state)
    check_invariants(state)


def everything_scheduled() -> ClusterState:
    """What format 2 has besides: all that `scheduling` means, as it stands in a state."""
    state = scheduled_story().state
    state.doomed[2] = {0: 1}
    state.overfailed[2] = None
    return state


def test_a_golden_snapshot_of_format_2_still_reads() -> None:
    assert digest(golden("snapshot-2.txt")) == digest(everything_scheduled())


def everything_ended() -> ClusterState:
    """What format 3 writes otherwise: jobs of which one attempt ended, or none, or more."""
    built = scheduled_story()
    done, never, twice, odd = (built.job() for _ in range(4))
    built.assign(done, worker=2)
    built.start(done, start_us=T0 + 5)
    built.end(done, start_us=T0 + 5, end_us=T0 + 9)
    built.apply(ev.CancelRequested(never, (), 0))
    built.assign(twice, worker=2)
    built.lose(twice)
    built.assign(twice, attempt=2, worker=2)
    built.end(twice, attempt=2)
    # By a clock that is behind, and by a cancel a moment after its end.
    built.assign(odd, worker=2)
    built.end(odd, start_us=T0 - 9, end_us=T0 - 10, state=State.FAILED, detail="why not")
    built.state.jobs.pack_ended(9)
    return built.state


def test_the_golden_snapshot_of_format_3_is_rewritten_only_on_purpose() -> None:
    if os.environ.get("SNAPSHOT_GOLDEN_REWRITE") != "1":
        return
    lines = [block.hex() for block in blocks_of(everything_ended())]
    (GOLDEN / "snapshot-3.txt").write_text("\n".join(lines) + "\n", encoding="ascii")
    pytest.fail("rewritten")


def test_a_golden_snapshot_of_format_3_still_reads_and_is_written_so() -> None:
    assert digest(golden("snapshot-3.txt")) == digest(everything_ended())
    lines = (GOLDEN / "snapshot-3.txt").read_text(encoding="ascii").split()
    assert [block.hex() for block in blocks_of(everything_ended())] == lines


def test_a_job_of_one_attempt_is_packed_and_unpacked_whatever_its_clocks_say() -> None:
    state = everything_ended()
    before = digest(state)
    assert digest(decode_state(blocks_of(state))) == before
    for job_id in state.jobs:
        job = state.get_job(job_id)
        again = unpack_job(pack_job(job), state.classes)
        assert (again.start_us, again.end_us) == (job.start_us, job.end_us)
        assert list(again.ended or ()) == list(job.ended or ())
        assert again.command == job.command


@pytest.mark.parametrize("words", [(b"",), (b"a", b""), (b"a", b"", b"b"), (b"a\0b", b"c"), ()])
def test_the_words_of_a_command_are_kept_whatever_is_in_them(words: tuple[bytes, ...]) -> None:
    built = Story()
    built.apply(
        ev.JobSubmitted(
            built.state.next_job_id, "ada", "n", words, b"/", ENVIRONMENT, 1, 0, (), 0, ()
        )
    )
    assert built.state.get_job(1).command == words
    assert decode_state(blocks_of(built.state)).get_job(1).command == words


def test_an_environment_without_jobs_that_stands_in_a_log_goes_into_a_snapshot() -> None:
    built = Story()
    built.apply(ev.EnvironmentStored(b"u" * 16, (), ()))
    again = decode_state(blocks_of(built.state))
    assert b"u" * 16 in again.environments
    assert digest(again) == digest(built.state)
    check_invariants(again)


def test_no_block_grows_beyond_what_a_snapshot_takes() -> None:
    """Whatever there is much of: long names of users and of resources, tasks on a worker."""
    built = Story()
    state = built.state
    named = tuple((f"{number:03d}" * 80, 1) for number in range(64))
    labels = tuple((f"label{number}" * 20, "x" * 200) for number in range(1000))
    for number in range(100):
        built.worker(worker_id=b"%016d" % number, labels=labels)
    for number in range(1500):
        state.add_class(JobClass(100 + number, ClassKey("ada", number, Resources(1, 0, named))))
    state.last_job_of.update({f"{number}" * 40: 1 for number in range(100_000)})
    sizes = [len(block) for block in blocks_of(state)]
    assert sum(sizes) > 40 << 20
    assert max(sizes) < 2 << 20


def test_the_head_of_a_packed_job_is_that_of_the_job() -> None:
    state = something_of_everything().state
    before = list(state.jobs.heads())
    assert [head.job_id for head in before] == list(state.jobs)
    state.jobs.pack_ended(9)
    assert list(state.jobs.heads()) == before
    assert {head.state for head in before} == {State.RUNNING, State.PENDING, State.CANCELLED}
    assert before[0].user == "ada"
    assert before[0].weight == 2, "nine tasks"
