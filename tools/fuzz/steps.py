"""What a round consists of: each kind of call, of bytes and of handshakes, at each server."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, NamedTuple

from tools.fuzz import raw, tls
from tools.fuzz.calls import Caller
from tools.fuzz.target import Target

_CONNECTIONS: Final = 5
# What is sent to a port with certificates as it is, by who does not care that it speaks TLS.
_PLAIN: Final = ("noise", "tls-hello", "http1", "garbage-frames", "rapid-reset")


class Step(NamedTuple):
    """A part of a round."""

    what: str
    run: Callable[[], Awaitable[Counter[str] | None]]


def steps(callers: list[Caller], rng: random.Random) -> list[Step]:
    """One round, in an order of its own."""
    made = [step for caller in callers for step in _calls(caller)]
    # A port has the same bytes and handshakes once, whoever the others are that call there.
    ports = {caller.target.address: caller.target for caller in reversed(callers)}
    for target in ports.values():
        made += [_bytes(target, target.title, name, rng.random()) for name in raw.ATTACKS]
        if target.tls is not None:
            plain = replace(target, tls=None)
            made += [_bytes(plain, f"{target.title}, plain", name, rng.random()) for name in _PLAIN]
            made += [_handshakes(target, name, rng.random()) for name in tls.STORMS]
    rng.shuffle(made)
    return made


def _calls(caller: Caller) -> list[Step]:
    title = caller.target.title
    return [
        Step(f"{title} every-rpc", lambda: caller.every_rpc(6)),
        Step(f"{title} wrong-metadata", lambda: caller.wrong_metadata(40)),
        Step(f"{title} cancelled", lambda: caller.opened_and_cancelled(60)),
    ]


def _bytes(target: Target, title: str, name: str, seed: float) -> Step:
    rng = random.Random(seed)
    return Step(f"{title} {name}", lambda: raw.attack(target, name, rng, _CONNECTIONS))


def _handshakes(target: Target, name: str, seed: float) -> Step:
    rng = random.Random(seed)
    return Step(f"{target.title} {name}", lambda: tls.STORMS[name](target, rng))
