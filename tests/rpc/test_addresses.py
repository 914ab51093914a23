"""Which of several managers is called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan.rpc.addresses import Addresses, split_addresses

A, B, C = "a:1", "b:2", "c:3"


def test_a_list_has_commas_between_its_addresses_and_each_once() -> None:
    assert split_addresses("a:1") == (A,)
    assert split_addresses(" a:1, b:2,a:1 ") == (A, B)
    assert split_addresses("[::1]:1,b:2") == ("[::1]:1", B)


@pytest.mark.parametrize("text", ["", "a", "a:1,", "a:1,,b:2", "a:x,b:2"])
def test_what_is_no_list_of_addresses_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        split_addresses(text)


def test_those_that_do_not_answer_are_tried_in_turn_and_then_a_pause_is_due() -> None:
    addresses, tried = Addresses((A, B, C)), set[str]()
    moves = []
    for _ in range(6):
        at_once = addresses.failed(addresses.current, "connection refused", tried)
        moves.append((addresses.current, at_once))
    assert moves == [(B, True), (C, True), (A, False)] * 2


def test_the_leader_that_a_standby_names_is_called_next() -> None:
    addresses, tried = Addresses((A, B, C)), set[str]()
    assert addresses.failed(A, "a standby", tried, leader=C)
    assert addresses.current == C
    addresses.answered(tried)
    assert (addresses.current, tried, addresses.describe()) == (C, set(), "")


@pytest.mark.parametrize("leader", ["", "elsewhere:9", A])
def test_a_leader_that_is_not_in_the_list_or_unknown_is_not_called(leader: str) -> None:
    addresses, tried = Addresses((A, B)), set[str]()
    assert addresses.failed(A, "a standby", tried, leader=leader)
    assert addresses.current == B


def test_two_that_name_each_other_are_not_asked_without_end() -> None:
    addresses, tried = Addresses((A, B)), set[str]()
    assert addresses.failed(A, "b leads", tried, leader=B)
    assert not addresses.failed(B, "a leads", tried, leader=A)
    assert addresses.describe() == "a:1: b leads; b:2: a leads"


def test_one_address_alone_is_asked_again_after_a_pause() -> None:
    addresses, tried = Addresses((A,)), set[str]()
    assert not addresses.failed(A, "connection refused", tried)
    assert not addresses.failed(A, "a standby", tried, leader=B)
    assert (addresses.current, addresses.are_several) == (A, False)


def test_a_call_that_fails_late_does_not_lead_others_away_from_where_they_went() -> None:
    addresses, first, second = Addresses((A, B, C)), set[str](), set[str]()
    assert addresses.failed(A, "cut off", first)
    addresses.answered(first)
    assert addresses.failed(A, "cut off", second)
    assert addresses.current == B


_Step = st.tuples(
    st.integers(0, 2),  # Whose call.
    st.sampled_from(["answered", "failed", "", A, B, C, "elsewhere:9"]),
)


@given(steps=st.lists(_Step, max_size=60), count=st.integers(1, 3))
def test_each_call_pauses_when_it_has_asked_all_or_one_of_them_twice(
    steps: list[tuple[int, str]], count: int
) -> None:
    """Whatever others do meanwhile, and whoever names whom."""
    addresses = Addresses((A, B, C)[:count])
    tried: list[set[str]] = [set(), set(), set()]
    at_once = [0, 0, 0]
    asked: list[list[str]] = [[], [], []]
    for call, end in steps:
        address = addresses.current
        assert address in addresses.all
        asked[call].append(address)
        if end == "answered":
            addresses.answered(tried[call])
            at_once[call], asked[call] = 0, []
            continue
        leader = "" if end == "failed" else end
        if addresses.failed(address, "away", tried[call], leader=leader):
            at_once[call] += 1
            assert addresses.current not in tried[call]
            assert at_once[call] < count
        else:
            assert set(asked[call]) == set(addresses.all) or asked[call].count(address) == 2
            at_once[call], asked[call] = 0, []
