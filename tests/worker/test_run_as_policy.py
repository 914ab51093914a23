"""The file that says who may run tasks as whom."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.worker.isolation import require_root
from titan.model import Execution, Sandbox
from titan.rpc.v1 import task_pb2, types_pb2
from titan.worker.agent.translate import start_batch_of
from titan.worker.run_as import LivePolicy, PolicyError, load_policy, parse_policy


def test_a_policy_grants_what_it_lists() -> None:
    text = '"*" = ["self"]\nbob = []\nada = ["batch", "self", "batch"]\n'
    assert parse_policy(text) == (("*", "self"), ("ada", "batch"), ("ada", "self"))
    assert parse_policy("") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('ada = "batch"', 'ada needs a list of accounts, as ada = \\["self"\\]'),
        ("ada = [1]", "ada needs a list of accounts"),
        ("[ada]\nx = 1", "ada needs a list of accounts"),
        ('ada = ["a b"]', "can be no user or account"),
        ('"a:b" = ["x"]', "can be no user or account"),
        ("ada = [", "at end of document"),
    ],
)
def test_what_is_no_policy_is_told(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_policy(text)


def write(path: Path, text: str, mode: int = 0o644) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_only_a_file_of_roots_that_nobody_else_can_write_counts(tmp_path: Path) -> None:
    require_root()
    path = write(tmp_path / "policy.toml", 'ada = ["batch"]\n')
    assert load_policy(path) == (("ada", "batch"),)
    for mode in (0o664, 0o646):
        path.chmod(mode)
        with pytest.raises(PolicyError, match="has to be owned by root, and writable by nobody"):
            load_policy(path)
    path.chmod(0o600)
    os.chown(path, 65534, 0)
    with pytest.raises(PolicyError, match="has to be owned by root"):
        load_policy(path)


def test_what_is_no_file_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="No such file"):
        load_policy(tmp_path / "none")
    with pytest.raises(PolicyError, match=r"cannot read|is no file"):
        load_policy(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PolicyError, match="is no file"):
        load_policy(tmp_path / "pipe")
    require_root()
    large = write(tmp_path / "large", "#" * ((1 << 20) + 1))
    with pytest.raises(PolicyError, match="is over"):
        load_policy(large)
    large.write_bytes(b"# \xff\n")
    with pytest.raises(PolicyError, match="cannot be used"):
        load_policy(large)


def test_it_is_read_again_when_it_has_changed_and_denies_all_while_it_is_broken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    require_root()
    caplog.set_level(logging.INFO, "titan.worker")
    path = write(tmp_path / "policy.toml", 'ada = ["batch"]\n')
    live = LivePolicy(path)
    assert live.grants() == (("ada", "batch"),)
    assert not caplog.records
    # As an editor does it: another file of that name.
    os.replace(write(tmp_path / "new", 'bob = ["batch"]\n'), path)
    assert live.grants() == (("bob", "batch"),)
    assert "was read again" in caplog.text
    caplog.clear()
    path.write_text("bob = [")
    assert live.grants() == live.grants() == ()
    assert [each.levelname for each in caplog.records] == ["ERROR"]
    path.unlink()
    assert live.grants() == ()
    write(path, 'eve = ["batch"]\n')
    assert live.grants() == (("eve", "batch"),)
    path.chmod(0o666)
    assert live.grants() == ()


def test_without_a_file_nothing_is_granted() -> None:
    assert LivePolicy(None).grants() == ()


def test_who_submitted_and_how_it_is_isolated_come_with_a_batch() -> None:
    execution = types_pb2.Execution(
        run_as="batch", sandbox=types_pb2.SANDBOX_BUBBLEWRAP, no_network=True
    )
    request = task_pb2.StartTaskRequest(
        environments=[types_pb2.Environment()],
        specs=[
            task_pb2.TaskSpec(job_id=1, user="ada", command=[b"a"], execution=execution),
            task_pb2.TaskSpec(job_id=2, user="bob", command=[b"a"]),
        ],
    )
    isolated, plain = start_batch_of(request).launches
    assert isolated.user == "ada"
    assert isolated.execution == Execution(
        run_as="batch", sandbox=Sandbox.BUBBLEWRAP, no_network=True
    )
    assert isolated.is_isolated
    assert (plain.user, plain.is_isolated) == ("bob", False)


def test_another_owner_or_mode_counts_also_where_the_clock_of_the_files_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It turns every few milliseconds; what changes twice within them has one time of change."""
    require_root()
    path = write(tmp_path / "policy.toml", 'ada = ["batch"]\n')
    for name in ("stat", "fstat"):
        monkeypatch.setattr(os, name, standing_still(getattr(os, name)))
    live = LivePolicy(path)
    assert live.grants() == (("ada", "batch"),)
    path.chmod(0o666)
    assert live.grants() == ()
    path.chmod(0o644)
    assert live.grants() == (("ada", "batch"),)
    os.chown(path, 65534, 0)
    assert live.grants() == ()


def standing_still(ask: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
    def answer(*arguments: Any, **settings: Any) -> os.stat_result:
        return os.stat_result(
            tuple(ask(*arguments, **settings)), {"st_mtime_ns": 0, "st_ctime_ns": 0}
        )

    return answer
