"""The devices behind a worker's named resources: `gpu=2` has 0 and 1, `gpu=[0,GPU-abc]` these."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from titan.errors import InvalidJob

# More is no pile of devices, as a count of licences.
DEVICES_MAX: Final = 1_024
# They go into an environment variable with commas between. Nvidia's longest are
# MIG-GPU-<uuid>/<number>/<number>.
_ID: Final = re.compile(r"[A-Za-z0-9_.:/@+-]{1,128}")


def ids_of(count: int) -> tuple[str, ...] | None:
    """Those of a resource that was given as a count, None: it is only counted."""
    return tuple(map(str, range(count))) if count <= DEVICES_MAX else None


def check_ids(name: str, ids: Sequence[str]) -> None:
    """Raises InvalidJob."""
    if not 0 < len(ids) <= DEVICES_MAX:
        raise InvalidJob(f"{name} can have 1 to {DEVICES_MAX} devices, not {len(ids)}")
    for each in ids:
        if not _ID.fullmatch(each):
            raise InvalidJob(
                f"{each!r} is no device of {name}: an id has letters, digits and -_.:/@+"
            )
    if len(set(ids)) < len(ids):
        twice = next(each for each in ids if ids.count(each) > 1)
        raise InvalidJob(f"the device {twice} of {name} is named twice")


def parse_resource(text: str) -> tuple[str, int, tuple[str, ...]]:
    """`gpu=2` or `gpu=[0,2,GPU-abc]`: name, count, and the ids where they are named.

    Raises ValueError with a sentence.
    """
    name, _, value = text.partition("=")
    if name and value.startswith("[") and value.endswith("]"):
        ids = tuple(each.strip() for each in value[1:-1].split(","))
        try:
            check_ids(name, ids)
        except InvalidJob as error:
            raise ValueError(str(error)) from error
        return name, len(ids), ids
    if not name or not (value.isascii() and value.isdecimal()):
        raise ValueError(
            f"{text!r} is no resource: write it as NAME=COUNT or NAME=[ID,ID,…], such as gpu=2"
        )
    return name, int(value[:19]), ()
