"""`import titan` is cheap, and has everything."""

import subprocess
import sys

import pytest

import titan


def test_importing_titan_loads_no_grpc_and_nothing_slow() -> None:
    code = (
        "import sys, titan; "
        "slow = {'grpc', 'google', 'click', 'rich', 'asyncio', 'psutil'} & set(sys.modules); "
        "print(slow or 'fast')"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "fast"


@pytest.mark.parametrize("name", titan.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(titan, name).__name__ == name
    assert name in dir(titan)


def test_titan_knows_its_version() -> None:
    assert titan.__version__.count(".") == 2


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Cleint'"):
        titan.Cleint  # noqa: B018
