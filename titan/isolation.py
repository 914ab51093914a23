"""Which workers may isolate which tasks: what a worker offers, and what a task needs. Pure.

A worker's offers go into its labels, under names that nobody can give to a worker by hand, and
what a task needs is a constraint over these. So a placement decision reads no more than it does
anyway, and so does everything that explains one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from titan.model import Execution, Sandbox
from titan.scheduling import LabelConstraint

# Labels that begin so are Titan's own.
RESERVED: Final = "titan."
RUN_AS_LABEL: Final = "titan.run-as"
SANDBOX_LABEL: Final = "titan.sandbox"
# In a policy: every proven user, and the account that has the user's own name.
EVERYBODY: Final = "*"
SELF: Final = "self"
# Who may become root is said by that very name.
ROOT: Final = "root"
GRANTS_MAX: Final = 1_000
GRANT_NAME_MAX: Final = 128
# Useful in the label of a worker and in the lines of a policy.
_FORBIDDEN: Final = frozenset(":,=")

Grants = tuple[tuple[str, str], ...]
"""(user, account) as a policy has them, EVERYBODY and SELF included; sorted."""
Labels = tuple[tuple[str, str], ...]


def check_grant_name(name: str) -> None:
    """Raises ValueError for what can be neither a user nor an account in a policy."""
    is_plain = name.isprintable() and not any(each.isspace() for each in name)
    if not 0 < len(name) <= GRANT_NAME_MAX or not is_plain or _FORBIDDEN & set(name):
        raise ValueError(
            f"{name!r} can be no user or account: 1 to {GRANT_NAME_MAX} letters, without spaces "
            "and without : , ="
        )


def check_grants(grants: Grants) -> None:
    """Raises ValueError for what no policy can hold."""
    if len(grants) > GRANTS_MAX:
        raise ValueError(f"{len(grants)} grants are over the limit of {GRANTS_MAX}")
    for user, account in grants:
        check_grant_name(user)
        check_grant_name(account)


def ways_to(user: str, account: str) -> Grants:
    """The grants of which any one lets that user run tasks as that account."""
    ways = [(user, account), (EVERYBODY, account)]
    if user == account != ROOT:
        ways += [(user, SELF), (EVERYBODY, SELF)]
    return tuple(ways)


def is_granted(grants: Iterable[tuple[str, str]], user: str, account: str) -> bool:
    """Whether one of the grants lets that user run tasks as that account."""
    ways = ways_to(user, account)
    return any(each in ways for each in grants)


def offered_labels(grants: Grants, sandboxes: Iterable[Sandbox]) -> Labels:
    """The labels for what a worker offers; of one name there may be several."""
    return (
        *((RUN_AS_LABEL, f"{user}:{account}") for user, account in grants),
        *((SANDBOX_LABEL, each.name.lower()) for each in sandboxes),
    )


def needed_constraints(user: str, execution: Execution) -> tuple[LabelConstraint, ...]:
    """What the labels of a worker have to be where a task of that user is run so."""
    needed: list[LabelConstraint] = []
    if execution.run_as:
        ways = ways_to(user, execution.run_as)
        needed.append(LabelConstraint(RUN_AS_LABEL, tuple(f"{who}:{what}" for who, what in ways)))
    if execution.sandbox is not Sandbox.NONE:
        needed.append(LabelConstraint(SANDBOX_LABEL, (execution.sandbox.name.lower(),)))
    return tuple(needed)


def needed_text(constraint: LabelConstraint) -> str:
    """Such a constraint as its user asked for it; empty for one of another label."""
    if constraint.negated or not constraint.values:
        return ""
    if constraint.label == RUN_AS_LABEL and ":" in constraint.values[0]:
        user, account = constraint.values[0].split(":", 1)
        return f"--user {account} for {user}"
    return f"--sandbox {constraint.values[0]}" if constraint.label == SANDBOX_LABEL else ""


def shown_labels(labels: Labels) -> dict[str, str]:
    """Labels by name, for people: the values of one name in one."""
    shown: dict[str, str] = {}
    for name, value in labels:
        shown[name] = f"{shown[name]},{value}" if name in shown else value
    return shown


def find_reserved(labels: Iterable[str]) -> str:
    """The first of these names that is Titan's own; empty: none is."""
    return next((each for each in labels if each.startswith(RESERVED)), "")
