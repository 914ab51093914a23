"""`titan manager step-down`, and that `titan manager` still starts one."""

from __future__ import annotations

import json
import threading

import grpc
import pytest

from tests.cli.conftest import Titan
from tests.client.fake_manager import DEADLINE_SECONDS, FakeManager
from titan.client.connection import os_user


def another_leads(manager: FakeManager, after_stats: int) -> None:
    """Another has the lease once it was asked so many times who leads."""
    manager.term, manager.led_from = 4, "a:50051"
    stepping_down = threading.Event()
    manager.on_step_down = stepping_down.set

    def take_over() -> None:
        stepping_down.wait(DEADLINE_SECONDS)
        manager.wait(lambda: len(manager.called("GetStats")) > after_stats)
        manager.led_from, manager.term = "b:50051", 5

    threading.Thread(target=take_over, daemon=True).start()


def test_it_waits_until_another_leads_and_says_who(manager: FakeManager, titan: Titan) -> None:
    another_leads(manager, after_stats=3)
    result = titan("manager", "step-down")
    assert (result.code, result.out, result.err) == (0, "b:50051 leads now, in term 5\n", "")
    (request,) = manager.called("StepDown")
    assert (request.term, request.user) == (4, os_user())
    # Who leads it asks the one that leads, and after that anybody.
    stale = [each.allow_stale for each in manager.called("GetStats")]
    assert stale[0] is False
    assert all(stale[1:])


def test_json_says_the_same(manager: FakeManager, titan: Titan) -> None:
    another_leads(manager, after_stats=1)
    result = titan("--json", "manager", "step-down")
    assert json.loads(result.out) == {"leader": "b:50051", "term": 5}


def test_an_address_may_stand_before_the_command(
    manager: FakeManager, titan: Titan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TITAN_MANAGER", "127.0.0.1:1")
    another_leads(manager, after_stats=1)
    assert titan("--manager", manager.address, "manager", "step-down").code == 0
    # But the command that starts one has no such option.
    assert "has no option --manager" in titan("--manager", manager.address, "manager").err


def test_nobody_else_leads_in_time(manager: FakeManager, titan: Titan) -> None:
    manager.term, manager.led_from = 4, "a:50051"
    result = titan("manager", "step-down", "--timeout", "300ms")
    assert result.code == 1
    assert "nobody else leads after 0.3 s; who led was a:50051" in result.err


def test_one_whose_log_is_its_own_refuses(manager: FakeManager, titan: Titan) -> None:
    manager.fail("StepDown", grpc.StatusCode.FAILED_PRECONDITION, "its log is in files of its own")
    result = titan("manager", "step-down")
    assert (result.code, result.err) == (5, "titan: its log is in files of its own\n")


def test_options_of_the_manager_before_it_are_a_mistake(titan: Titan) -> None:
    result = titan("manager", "--listen", "127.0.0.1:0", "step-down")
    assert result.code == 2
    assert "--listen stands before step-down" in result.err
