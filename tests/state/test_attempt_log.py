"""AttemptLog against a list."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan.model import INDEX_MAX
from titan.state.attempts import AttemptLog, EndedAttempt, pack_ended

# Bytes of one record often look like the key of another.
small = st.integers(0, 3)
indexes = small | st.sampled_from([INDEX_MAX, 256, 1 << 16, 0x01010101])


@st.composite
def ended_attempts(draw: st.DrawFn) -> EndedAttempt:
    times = small | st.integers(0, (1 << 63) - 1)
    return EndedAttempt(
        index=draw(indexes),
        attempt=draw(st.integers(1, 3) | st.just((1 << 32) - 1)),
        worker=draw(small | st.just((1 << 32) - 1)),
        state=draw(st.integers(4, 8)),
        reason=draw(st.integers(0, 5)),
        signal=draw(st.sampled_from([0, 9, 64, 255])),
        exit_code=draw(st.sampled_from([-1, 0, 1, 255, (1 << 31) - 1])),
        start_us=draw(times),
        end_us=draw(times),
        cpu_user_us=draw(times),
        cpu_system_us=draw(times),
        max_rss_bytes=draw(times),
    )


def append(log: AttemptLog, record: EndedAttempt, detail: str) -> None:
    log.data += pack_ended(*record)
    if detail:
        log.note_detail(record.index, record.attempt, detail)


def check(real: AttemptLog, dumb: list[tuple[EndedAttempt, str]]) -> None:
    assert list(real) == [record for record, _ in dumb]
    assert len(real) == len(dumb)
    for record, detail in dumb:
        assert real.find(record.index, record.attempt) == record
        assert real.detail(record.index, record.attempt) == detail
        assert real.of_index(record.index) == [
            other for other, _ in dumb if other.index == record.index
        ]
    if dumb:
        assert real.last() == dumb[-1][0]
    assert (real.details is None) == (not any(detail for _, detail in dumb))


@given(st.data())
def test_an_attempt_log_does_what_a_list_does(data: Any) -> None:
    real, dumb = AttemptLog(), list[tuple[EndedAttempt, str]]()
    for _ in range(data.draw(st.integers(0, 10))):
        if dumb and data.draw(st.integers(0, 3)) == 0:
            chosen = data.draw(st.sampled_from(dumb))
            real.remove(chosen[0].index, chosen[0].attempt)
            dumb.remove(chosen)
        else:
            record = data.draw(ended_attempts())
            detail = data.draw(st.sampled_from(["", "killed"]))
            if real.find(record.index, record.attempt) is None:
                append(real, record, detail)
                dumb.append((record, detail))
        check(real, dumb)
    for index in (0, 1, 2, 3, INDEX_MAX):
        for attempt in (1, 2, 3):
            if not any((r.index, r.attempt) == (index, attempt) for r, _ in dumb):
                assert real.find(index, attempt) is None
                assert real.detail(index, attempt) == ""
                with pytest.raises(KeyError):
                    real.remove(index, attempt)
