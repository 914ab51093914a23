"""A certificate authority, and what it has made."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from titan.certs import authority, layout
from titan.certs.authority import Authority, Issued
from titan.tls.identity import Role


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    """The widest one: what is private is so by itself."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a TLS directory is to be."""
    return tmp_path / "tls"


@pytest.fixture
def ca(directory: Path) -> Authority:
    """A new CA."""
    return authority.create(directory, cluster="lab", now=time.time())


def issue(ca: Authority, role: Role, name: str, *hosts: str) -> Issued:
    """A certificate for a day."""
    return ca.issue(role, name, days=1, now=time.time(), hosts=hosts)


def write(directory: Path, issued: Issued) -> Path:
    """Its files, in a directory of that name."""
    layout.write_credentials(directory, issued.credentials)
    return directory
