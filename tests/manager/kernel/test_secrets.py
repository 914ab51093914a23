"""Jobs with secrets, of which the kernel knows names and a random number, and no value."""

from __future__ import annotations

import pytest

from tests.manager.builders import NO_ENVIRONMENT, Rig, new_job, only
from titan import events as ev
from titan.checks import SECRET_BYTES_MAX
from titan.errors import InvalidJob, Refused
from titan.manager.kernel.outbox import BATCH_BYTES_MAX
from titan.model import Reason, State
from titan.scheduling import Scheduling


def secret(
    number: int = 0, *names: bytes, variables: tuple[tuple[bytes, bytes], ...] = ()
) -> tuple[object, ...]:
    """An environment with secrets of its own."""
    mark = number.to_bytes(16, "big")
    return (b"e" + mark[1:], (), variables, b"", b"s" + mark[1:], names or (b"TOKEN",))


def test_names_and_number_are_in_the_event_that_stores_the_environment() -> None:
    rig = Rig()
    rig.submit(new_job(), environments=(secret(7),))
    (stored,) = only(ev.decode_record(rig.records[-1])[1], ev.EnvironmentStored)
    assert (stored.secret_id, stored.secret_names) == (b"s" + bytes(14) + b"\7", (b"TOKEN",))


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (secret(0, b"A", b"A"), "A is set twice"),
        (secret(0, b"A", variables=((b"A", b"1"),)), "A is set twice"),
        (secret(0, b"A", b""), "cannot be the name of a secret"),
        (secret(0, b"A=1"), "cannot be the name of a secret"),
        (secret(0, b"A\0"), "cannot be the name of a secret"),
    ],
)
def test_bad_names_are_refused_and_change_nothing(
    environment: tuple[object, ...], words: str
) -> None:
    rig = Rig()
    records = len(rig.records)
    with pytest.raises(InvalidJob, match=words):
        rig.submit(new_job(), environments=(environment,))
    assert len(rig.records) == records


def test_a_batch_counts_secrets_as_large_as_they_may_be() -> None:
    rig = Rig(checks=False)
    host = rig.worker(100)
    per_batch = BATCH_BYTES_MAX // (SECRET_BYTES_MAX + 10)
    environments = tuple(secret(each) for each in range(per_batch + 2))
    rig.submit(
        *(new_job(environment=each) for each in range(per_batch + 2)), environments=environments
    )
    rig.schedule()
    sizes = [len(each.starts) for each in host.receive_all()]
    assert sum(sizes) == per_batch + 2
    assert sizes[0] <= BATCH_BYTES_MAX // SECRET_BYTES_MAX


def test_a_worker_that_takes_none_is_sent_none_and_the_task_has_failed() -> None:
    rig = Rig()
    host = rig.worker(4)
    host.register(takes_secrets=False)
    rig.submit(new_job(environment=1), new_job(), environments=(NO_ENVIRONMENT, secret()))
    rig.schedule()
    assert [attempt.job_id for batch in host.receive_all() for attempt in batch.starts] == [2]
    assert rig.task_state(1) is State.FAILED
    ended = rig.state.get_job(1).ended
    assert ended is not None
    assert ended.last().reason == Reason.LAUNCH_ERROR


def test_what_a_worker_was_given_before_its_agent_was_exchanged_for_an_older_one_is_not_sent() -> (
    None
):
    rig = Rig()
    host = rig.worker(4)
    rig.submit(new_job(), environments=(secret(),))
    rig.schedule()
    assert rig.task_state(1) is State.SCHEDULED
    host.register(takes_secrets=False)
    rig.schedule()
    assert not [attempt for batch in host.receive_all() for attempt in batch.starts]
    assert rig.task_state(1) is State.FAILED


def test_a_job_that_ended_is_not_submitted_again_and_one_under_way_is_put_back() -> None:
    rig = Rig()
    host = rig.worker(4)
    rig.submit(
        new_job(), new_job(array=[(0, 2)], scheduling=Scheduling(max_fails=9)),
        environments=(secret(),),
    )  # fmt: skip
    rig.finish(host, 1, state=State.FAILED)
    with pytest.raises(Refused, match="job 1 has ended and its secrets are gone"):
        rig.requeue(1)
    rig.finish(host, 2, 0, State.FAILED)
    rig.start_here(host, 2, 1)
    assert rig.requeue(2).job_ids == [2]
