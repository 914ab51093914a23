"""What users ask of workers' labels: `zone==a and disk in (ssd,nvme)`, to the wire and back. Pure.

    expression  clause, then more of them, each behind "and" or "&&"
    clause      LABEL == VALUE    LABEL != VALUE    LABEL in LIST    LABEL not in LIST
    list        VALUE,VALUE  or the same in ( )

A label or value with blanks or signs in it stands in quotes.
"""

from __future__ import annotations

import re
from typing import Final

from titan.rpc.v1 import manager_pb2

_WORD: Final = r"[^\s=!<>(),&|'\"]+"
_TOKEN: Final = (
    rf"\s*(?:(?P<sign>==|!=|<=|>=|&&|\|\||[=!<>(),&|])|\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'"
    rf"|(?P<word>{_WORD}))"
)
_HOW: Final = (
    "write it as zone==a, zone!=a, 'zone in (a,b)' or 'zone not in (a,b)', several joined by 'and'"
)


def parse_constraint(text: str) -> list[manager_pb2.LabelConstraint]:
    """All that an expression asks for. Raises ValueError with a sentence."""
    reader = _Reader(text)
    found = [_clause(reader)]
    while not reader.is_at_end():
        if not reader.takes("and", "&&"):
            raise reader.error()
        found.append(_clause(reader))
    return found


def format_constraint(constraint: manager_pb2.LabelConstraint) -> str:
    """How a user would have written it."""
    label, values = _quoted(constraint.label), [_quoted(value) for value in constraint.values]
    if len(values) == 1:
        return f"{label}{'!=' if constraint.negated else '=='}{values[0]}"
    return f"{label} {'not in' if constraint.negated else 'in'} ({','.join(values)})"


def check_label(label: str, option: str) -> str:
    """A label's name by itself. Raises ValueError."""
    if not label or "=" in label:
        raise ValueError(f"{option} {label!r} names no label of workers: write it as zone")
    return label


class _Reader:
    """The signs and words of an expression, one after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str]] = []
        place = 0
        token = re.compile(_TOKEN)
        rest = text.rstrip()
        while place < len(rest):
            match = token.match(rest, place)
            if match is None:
                raise self.error("there is a quote without its end")
            kind = match.lastgroup or ""
            self._tokens.append((kind, match[kind]))
            place = match.end()
        self._place = 0

    def is_at_end(self) -> bool:
        return self._place == len(self._tokens)

    def takes(self, *wanted: str) -> str:
        """The next sign or word if it is one of those; else empty, and it is still the next."""
        if not self.is_at_end():
            kind, text = self._tokens[self._place]
            if kind in {"sign", "word"} and text in wanted:
                self._place += 1
                return text
        return ""

    def name(self) -> str:
        """The next word, or what stands in quotes."""
        if self.is_at_end() or self._tokens[self._place][0] == "sign":
            raise self.error()
        self._place += 1
        return self._tokens[self._place - 1][1]

    def error(self, why: str = "") -> ValueError:
        return ValueError(f"{self._text!r} is no constraint: {why + '; ' if why else ''}{_HOW}")


def _clause(reader: _Reader) -> manager_pb2.LabelConstraint:
    label = reader.name()
    if not label:
        raise reader.error("a label has a name")
    if sign := reader.takes("==", "!="):
        value = reader.name()
        if reader.takes(","):
            raise reader.error(f"several values are written as {_quoted(label)} in ({value},…)")
        return _constraint(label, [value], negated=sign == "!=")
    if reader.takes("="):
        value = "a" if reader.is_at_end() else reader.name()
        raise reader.error(f"write {_quoted(label)}=={_quoted(value)}, with two =")
    negated = bool(reader.takes("not"))
    if not reader.takes("in"):
        raise reader.error()
    return _constraint(label, _values(reader), negated=negated)


def _values(reader: _Reader) -> list[str]:
    in_brackets = bool(reader.takes("("))
    values = [reader.name()]
    while reader.takes(","):
        values.append(reader.name())
    if in_brackets and not reader.takes(")"):
        raise reader.error()
    return values


def _constraint(label: str, values: list[str], *, negated: bool) -> manager_pb2.LabelConstraint:
    # A value that is named twice says nothing more.
    return manager_pb2.LabelConstraint(
        label=label, values=list(dict.fromkeys(values)), negated=negated
    )


def _quoted(text: str) -> str:
    if re.fullmatch(_WORD, text):
        return text
    return f"'{text}'" if '"' in text else f'"{text}"'
