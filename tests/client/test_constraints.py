"""What users ask of workers' labels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan.client.constraints import format_constraint, parse_constraint
from titan.rpc.v1 import manager_pb2

Clause = tuple[str, list[str], bool]


def clauses(text: str) -> list[Clause]:
    return [(each.label, list(each.values), each.negated) for each in parse_constraint(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("zone==a", [("zone", ["a"], False)]),
        (" zone == a ", [("zone", ["a"], False)]),
        ("zone!=a", [("zone", ["a"], True)]),
        ("zone in (a,b)", [("zone", ["a", "b"], False)]),
        ("zone in a, b", [("zone", ["a", "b"], False)]),
        ("zone in(a)", [("zone", ["a"], False)]),
        ("zone in (a,b,a)", [("zone", ["a", "b"], False)]),
        ("zone not in (a,b)", [("zone", ["a", "b"], True)]),
        ("zone not in a,b", [("zone", ["a", "b"], True)]),
        ("zone==a and disk!=hdd", [("zone", ["a"], False), ("disk", ["hdd"], True)]),
        ("zone==a&&disk in x,y and q==1", None),
        ("zone in a,b and disk==x", [("zone", ["a", "b"], False), ("disk", ["x"], False)]),
        ("and==in and in in (and,not)", [("and", ["in"], False), ("in", ["and", "not"], False)]),
        ("a.b/c-d_e==1.5", [("a.b/c-d_e", ["1.5"], False)]),
        ('zone=="a b" and x==\'c,"d\'', [("zone", ["a b"], False), ("x", ['c,"d'], False)]),
        ('zone==""', [("zone", [""], False)]),
        ("größe==ü", [("größe", ["ü"], False)]),
    ],
)
def test_an_expression_says_what_labels_have_to_be(
    text: str, expected: list[Clause] | None
) -> None:
    found = clauses(text)
    if expected is None:
        expected = [("zone", ["a"], False), ("disk", ["x", "y"], False), ("q", ["1"], False)]
    assert found == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("zone=a", "write zone==a, with two ="),
        ("zone=", "write zone==a, with two ="),
        ("zone", "is no constraint: write it as zone==a"),
        ("", "write it as zone==a"),
        ("  ", "write it as zone==a"),
        ("==a", "write it as zone==a"),
        ("zone==", "write it as zone==a"),
        ("zone==a,b", r"several values are written as zone in \(a,…\)"),
        ("zone in", "write it as"),
        ("zone in (", "write it as"),
        ("zone in (a,b", "write it as"),
        ("zone in (a,)", "write it as"),
        ("zone in a b", "write it as"),
        ("zone not a", "write it as"),
        ("zone==a or zone==b", "write it as"),
        ("zone==a || zone==b", "'zone in"),
        ("zone==a and", "write it as"),
        ("zone==a disk==b", "joined by 'and'"),
        ("mem>5", "write it as"),
        ('zone=="a', "a quote without its end"),
        ('""==a', "a label has a name"),
    ],
)
def test_anything_else_is_told_how_it_is_written(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_constraint(text)


_TEXTS = st.text(st.characters(exclude_characters="'", exclude_categories=["Cs", "Cc"]))


@given(
    label=_TEXTS.filter(bool),
    values=st.lists(_TEXTS, min_size=1, max_size=3, unique=True),
    negated=st.booleans(),
)
def test_what_is_printed_is_read_back(label: str, values: list[str], negated: bool) -> None:
    constraint = manager_pb2.LabelConstraint(label=label, values=values, negated=negated)
    assert parse_constraint(format_constraint(constraint)) == [constraint]
