"""Secrets as they are given: by files on the command line and in flows, by values in Python."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Any

import pytest

from titan.checks import SECRET_BYTES_MAX
from titan.client import flow_toml, submission
from titan.client.jobspec import JobSpec, environment_of
from titan.client.secret_env import parse_secret, read_secrets
from titan.errors import InvalidJob

VALUE = "hunter2"


def test_a_secret_is_named_by_its_file() -> None:
    assert parse_secret("TOKEN=@a=b@c") == ("TOKEN", "a=b@c")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"TOKEN={VALUE}", "TOKEN=@FILE"),
        ("TOKEN=@", "TOKEN=@FILE"),
        ("TOKEN=", "TOKEN=@FILE"),
        (VALUE, "NAME=@FILE"),
        (f"=@{VALUE}", "NAME=@FILE"),
    ],
)
def test_a_value_in_place_of_its_file_is_refused_and_not_repeated(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        parse_secret(text)
    assert VALUE not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"x\n", b"x"),
        (b"x\n\n\n", b"x"),
        (b"x", b"x"),
        (b"", b""),
        (b"\n", b""),
        (b" a\nb \r\n", b" a\nb \r"),
        (b"\xff\n", b"\xff"),
    ],
)
def test_line_ends_at_the_end_of_a_file_do_not_count(
    tmp_path: Path, content: bytes, value: bytes
) -> None:
    (tmp_path / "f").write_bytes(content)
    assert read_secrets({"A": "f"}, str(tmp_path)) == {"A": value}


def test_a_file_that_is_not_there_or_too_large_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidJob, match=f"the secret A from {tmp_path}/f: No such file"):
        read_secrets({"A": "f"}, str(tmp_path))
    with pytest.raises(InvalidJob, match=r"the secret A from .*: Is a directory"):
        read_secrets({"A": str(tmp_path)})
    (tmp_path / "f").write_bytes(b"x" * (SECRET_BYTES_MAX + 1))
    with pytest.raises(InvalidJob, match="larger than 128 KiB"):
        read_secrets({"A": "f"}, str(tmp_path))


def test_values_of_python_go_into_the_environment_as_they_are() -> None:
    values: dict[str, str | bytes] = {"B": "ü\n", "A": b"\xff"}
    spec = JobSpec(command=["x"], secret_env=values, env={"C": "3"})
    message = environment_of(spec, {})
    assert [(each.name, each.value) for each in message.secrets] == [
        (b"A", b"\xff"),
        (b"B", "ü\n".encode()),
    ]
    assert [each.name for each in message.set] == [b"C"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"secret_env": {"A": VALUE}, "env": {"A": "1"}}, "A is set twice"),
        ({"secret_env": {"A=B": VALUE}}, "cannot be the name"),
        ({"secret_env": {"A": VALUE + "\0"}}, "A holds a zero byte"),
        ({"secret_env": {"A": 3}}, "A is neither text nor bytes"),
        ({"secret_env": {"A": VALUE * (SECRET_BYTES_MAX // 6)}}, "over the limit"),
    ],
)
def test_what_is_wrong_with_a_secret_is_said_without_its_value(
    fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidJob, match=words) as caught:
        environment_of(JobSpec(command=["x"], **fields), {})
    assert VALUE not in "".join(traceback.format_exception(caught.value))


def test_a_spec_that_is_printed_does_not_show_them() -> None:
    assert VALUE not in repr(JobSpec(command=["x"], secret_env={"A": VALUE}))


def test_jobs_with_the_same_secrets_share_them_and_a_request_has_only_so_many() -> None:
    specs = [
        JobSpec(command=["x"], secret_env={"A": str(number // 2)})
        for number in range(2 * submission.SECRETS_MAX + 2)
    ]
    one, two = submission.submit_requests(specs, user="u", request_id=os.urandom(16), environ={})
    assert len(one.environments) == submission.SECRETS_MAX
    assert [len(each.jobs) for each in (one, two)] == [2 * submission.SECRETS_MAX, 2]
    assert [each.secrets[0].value for each in two.environments] == [b"256"]


@pytest.mark.parametrize(
    "value",
    ['{A = "@s/a", B = "@s/b"}', '["A=@s/a", "B=@s/b"]'],
)
def test_a_flow_names_files_that_lie_beside_it(tmp_path: Path, value: str) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a").write_text("1\n")
    (tmp_path / "s" / "b").write_text("2")
    text = f'[job.x]\nshell = "env"\nsecret_env = {value}\n'
    specs = flow_toml.read_toml(text.encode(), str(tmp_path))
    assert specs["x"].secret_env == {"A": b"1", "B": b"2"}


def test_what_all_jobs_of_a_flow_have_and_what_one_has_are_taken_together(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    text = (
        '[defaults]\nsecret_env = {A = "@a", B = "@a"}\n'
        '[job.x]\nshell = "env"\nsecret_env = {B = "@b"}\n'
    )
    specs = flow_toml.read_toml(text.encode(), str(tmp_path))
    assert specs["x"].secret_env == {"A": b"1", "B": b"2"}


@pytest.mark.parametrize("value", [f'{{A = "{VALUE}"}}', f'"A={VALUE}"', "{A = 1234567}"])
def test_a_flow_does_not_hold_values(value: str) -> None:
    text = f'[job.x]\nshell = "env"\nsecret_env = {value}\n'
    with pytest.raises(InvalidJob, match="job x: secret_env: the value of A is not") as caught:
        flow_toml.read_toml(text.encode(), "/")
    assert VALUE not in str(caught.value)
