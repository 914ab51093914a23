"""The index of what is free, against a sorted list that is looked through."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from titan.scheduler.free_index import BUCKET_KEYS, FreeIndex, Key


def enough(key: Key, amounts: Sequence[int]) -> bool:
    return all(have >= asked for have, asked in zip(key, amounts, strict=False))


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_it_finds_what_a_look_at_each_key_finds(seed: int, width: int) -> None:
    rng = random.Random(f"{seed} {width}")
    most = rng.choice([3, 50])
    resources = ("cpus", "memory", "gpu")[:width]

    def draw(number: int) -> Key:
        return (*(rng.randint(-1, most) for _ in range(width)), number)

    keys = {number: draw(number) for number in range(1, rng.choice([2, 5 * BUCKET_KEYS]))}
    index = FreeIndex(resources, keys.values())
    for _ in range(600):
        number = rng.randrange(1, 6 * BUCKET_KEYS)
        if number in keys and rng.random() < 0.4:
            index.drop(number)
            del keys[number]
        else:
            keys[number] = draw(number)
            index.put(keys[number])
        ordered = sorted(keys.values())
        assert list(index) == ordered
        assert len(index) == len(ordered)
        amounts = [rng.randint(0, most) for _ in range(width)]
        excluded = set(rng.sample(sorted(keys), min(len(keys), rng.choice([0, 0, 3]))))
        fits = [key for key in ordered if enough(key, amounts) and key[-1] not in excluded]
        assert index.first_with(amounts, excluded) == (fits[0] if fits else None)
        best = max(fits, key=lambda key: (key[:-1], -key[-1]), default=None)
        assert index.most_with(amounts, excluded) == best
        assert index.have_all(amounts) == all(enough(key, amounts) for key in ordered)


def test_one_that_left_is_not_found_and_cannot_leave_twice() -> None:
    index = FreeIndex(("cpus",), [(5, 1), (7, 2)])
    index.drop(1)
    assert index.first_with([1], ()) == (7, 2)
    with pytest.raises(KeyError):
        index.drop(1)
