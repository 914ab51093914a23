"""The CA that the tests of connections have, too."""

from __future__ import annotations

from tests.rpc.conftest import people

__all__ = ["people"]
