"""How users name jobs."""

import pytest

from titan.client.names import format_selector, parse_job
from titan.rpc.v1 import manager_pb2, types_pb2


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("42", {"job_id": 42}),
        ("last", {"last_of_user": "alice"}),
        ("name:train", {"name": "train"}),
        ("name:42", {"name": "42"}),
        ("name:a.b", {"name": "a.b"}),
    ],
)
def test_a_job_is_named_by_number_last_or_name(text: str, fields: dict[str, object]) -> None:
    assert parse_job(text, "alice") == manager_pb2.JobSelector(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "start", "stop"), [("42.7", 7, 8), ("42.0-9", 0, 10)])
def test_tasks_are_named_behind_a_point(text: str, start: int, stop: int) -> None:
    indexes = [types_pb2.IndexRange(start=start, stop=stop, step=1)]
    selector = manager_pb2.JobSelector(job_id=42, indexes=indexes)
    assert parse_job(text, "alice") == selector
    assert format_selector(selector) == text


def test_a_number_may_be_an_int() -> None:
    assert parse_job(42, "alice").job_id == 42


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "42.", "42.x", "name:", "42.9-0", "1" * 19])
def test_what_is_no_job_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"no job|write"):
        parse_job(text, "alice")


@pytest.mark.parametrize("text", ["last", "name:train", "42", "42.0-8:2,100"])
def test_a_selector_is_written_as_it_was_read(text: str) -> None:
    assert format_selector(parse_job(text, "alice")) == text
