"""Who may run tasks as whom, by grants and by the labels that they become."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan import isolation
from titan.checks import check_execution
from titan.errors import InvalidJob
from titan.model import PLAIN, Execution, Resources, Sandbox
from titan.scheduler.constraints import labels_match
from titan.scheduler.filters import constraint_text
from titan.scheduling import LabelConstraint

names = st.sampled_from(["ada", "batch", "root", "toor", "x"])
grants = st.lists(
    st.tuples(
        st.one_of(names, st.just(isolation.EVERYBODY)), st.one_of(names, st.just(isolation.SELF))
    ),
    max_size=4,
).map(lambda each: tuple(sorted(set(each))))


@given(grants, names, names, st.booleans(), st.booleans())
def test_a_worker_is_in_question_if_its_policy_allows_it(
    given_: isolation.Grants, user: str, account: str, wants_box: bool, has_box: bool
) -> None:
    execution = Execution(run_as=account, sandbox=Sandbox.BUBBLEWRAP if wants_box else Sandbox.NONE)
    labels = (
        ("zone", "a"),
        *isolation.offered_labels(given_, (Sandbox.BUBBLEWRAP,) if has_box else ()),
    )
    allowed = any(
        who in (user, "*") and (what == account or (what == "self" and user == account != "root"))
        for who, what in given_
    )
    assert isolation.is_granted(given_, user, account) is allowed
    needed = isolation.needed_constraints(user, execution)
    assert labels_match(labels, needed) is (allowed and (has_box or not wants_box))


def test_what_asks_for_nothing_needs_nothing() -> None:
    assert isolation.needed_constraints("ada", PLAIN) == ()
    assert isolation.offered_labels((), ()) == ()


def test_a_name_in_a_grant_cannot_be_taken_for_another() -> None:
    for name in ("a:b", "a,b", "a=b", "a b", "", "a\n", "a\x1b", "x" * 129):
        with pytest.raises(ValueError, match="can be no user or account"):
            isolation.check_grants((("ada", name),))
        with pytest.raises(ValueError, match="can be no user or account"):
            isolation.check_grants(((name, "ada"),))
    isolation.check_grants((("ada.b-c_1", "*"),))
    with pytest.raises(ValueError, match="over the limit"):
        isolation.check_grants(tuple((f"u{each}", "x") for each in range(1001)))


def test_workers_that_are_turned_away_are_told_in_the_users_words() -> None:
    execution = Execution(run_as="batch", sandbox=Sandbox.BUBBLEWRAP)
    needed = isolation.needed_constraints("ada", execution)
    assert list(map(constraint_text, needed)) == [
        "--user batch for ada",
        "--sandbox bubblewrap",
    ]
    plain = LabelConstraint("zone", ("a",))
    assert constraint_text(plain) == "zone==a"
    assert constraint_text(LabelConstraint(isolation.SANDBOX_LABEL, ("x",), negated=True)) == (
        "titan.sandbox!=x"
    )


def test_labels_of_one_name_are_shown_in_one() -> None:
    labels = isolation.offered_labels((("*", "self"), ("ada", "batch")), (Sandbox.BUBBLEWRAP,))
    assert isolation.shown_labels((("zone", "a"), *labels)) == {
        "zone": "a",
        "titan.run-as": "*:self,ada:batch",
        "titan.sandbox": "bubblewrap",
    }
    assert isolation.find_reserved(["zone", "titan.run-as"]) == "titan.run-as"
    assert isolation.find_reserved(["zone", "titanic"]) == ""


@pytest.mark.parametrize(
    ("execution", "words"),
    [
        (Execution(no_network=True), "--sandbox bubblewrap"),
        (Execution(run_as="a:b"), "can be no user or account"),
        (Execution(run_as="self"), "names no account"),
        (Execution(run_as="*"), "names no account"),
    ],
)
def test_what_makes_no_sense_is_refused(execution: Execution, words: str) -> None:
    with pytest.raises(InvalidJob, match=words):
        check_execution(execution, Resources(1000))
