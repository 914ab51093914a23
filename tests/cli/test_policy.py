"""`titan policy`."""

from __future__ import annotations

import json

import grpc
import pytest

from tests.cli.conftest import Titan
from tests.client.fake_manager import FakeManager
from titan.client.connection import os_user
from titan.rpc.v1 import manager_pb2

UNTOUCHED = """\
placement      round-robin-then-bin-packing
order          easy
fair share     off
preempt        off
reserve after  1m
user cpus      no limit
set by         the manager's options
"""


@pytest.mark.parametrize("line", ["policy", "policy show"])
def test_the_policy_is_shown(manager: FakeManager, titan: Titan, line: str) -> None:
    assert titan(*line.split()) == (0, UNTOUCHED, "")
    assert json.loads(titan(*line.split(), "--json").out) == {
        "placement": "round-robin-then-bin-packing",
        "order": "easy",
        "fair_share": False,
        "preempt": "off",
        "reserve_after_seconds": 60.0,
        "user_limits": {},
        "was_set": False,
    }


def test_what_is_named_is_set_and_shown(manager: FakeManager, titan: Titan) -> None:
    result = titan(
        *("policy", "set", "--policy", "spread", "--order", "easy-sjbf", "--fair-share", "on"),
        *("--preempt", "requeue", "--reserve-after", "5m", "--user-cpus", "16"),
        *("--user-cpus", "bob=none", "--user-cpus", "ada=0.5", "--user-cpus", "eve=0"),
    )
    assert (result.code, result.out.splitlines()) == (
        0,
        [
            "placement      spread",
            "order          easy-sjbf",
            "fair share     on",
            "preempt        requeue",
            "reserve after  5m",
            "user cpus      16 each, ada=0.5, bob=none, eve=none",
            "set by         `titan policy set`",
        ],
    )
    (request,) = manager.called("SetPolicy")
    assert request.user == os_user()
    assert {each.user: each.cpus_milli for each in request.user_limits} == {
        "": 16_000,
        "ada": 500,
        "bob": 0,
        "eve": 0,
    }


def test_what_is_not_named_stays(manager: FakeManager, titan: Titan) -> None:
    manager.policy.policy.fair_share = True
    view = json.loads(titan("policy", "set", "--json", "--user-cpus", "ada=2").out)
    assert (view["fair_share"], view["user_limits"], view["was_set"]) == (True, {"ada": 2}, True)
    view = json.loads(titan("policy", "set", "--json", "--fair-share", "off").out)
    assert (view["fair_share"], view["user_limits"]) == (False, {"ada": 2})
    first, second = manager.called("SetPolicy")
    assert not first.HasField("fair_share")
    assert second == manager_pb2.SetPolicyRequest(user=os_user(), fair_share=False)


def test_what_the_manager_refuses_is_told(manager: FakeManager, titan: Titan) -> None:
    manager.fail("SetPolicy", grpc.StatusCode.INVALID_ARGUMENT, "there is no order 'skip'")
    result = titan("policy", "set", "--order", "skip")
    assert (result.code, result.err) == (2, "titan: there is no order 'skip'\n")


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("policy set", "nothing to set"),
        ("policy set --order best", "'best' is not one of"),
        ("policy set --policy best", "'best' is not one of"),
        ("policy set --preempt kill", "'kill' is not one of"),
        ("policy set --fair-share yes", "'yes' is not one of"),
        ("policy set --reserve-after 5", "unit"),
        ("policy set --user-cpus ada", "number of cpus"),
        ("policy set --user-cpus =5", "names no user"),
        ("policy --json set --order skip", "--json stands before set: put it behind"),
        ("policy get", "No such command"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    manager: FakeManager, titan: Titan, line: str, hint: str
) -> None:
    result = titan(*line.split())
    assert result.code == 2
    assert hint in result.err
    assert not manager.calls
