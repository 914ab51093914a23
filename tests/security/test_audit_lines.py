"""Whatever is denied stands in the log of who denied it: every method there is, of both servers."""

from __future__ import annotations

import re
from collections.abc import Iterator

import grpc
import pytest

from tests.cluster import Server, wait_until
from tests.security.conftest import SecureCluster
from tests.security.test_every_call import ANSWERS, DENIED, UNKNOWN, answer_to
from tests.security.world import World

LINE = re.compile(
    r'^\S+Z WARNING denied who="(?P<who>[^"]*)" what=(?P<what>\w+) '
    r'from=ipv4:127\.0\.0\.1:\d+ why=".+"$',
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def world(cluster: SecureCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(cluster, tmp_path_factory.mktemp("audit"))
    yield made
    made.close()


def denied_by(server: Server) -> set[tuple[str, str]]:
    """Who was denied what."""
    return {(each["who"], each["what"]) for each in LINE.finditer(server.log)}


def try_until_told(
    world: World, server: Server, caller: str, row: str, who: str
) -> grpc.StatusCode:
    """Calls until there is a line; of the lines of a second only so many are written."""
    what = re.split(r"[. ]", row)[1]
    codes: set[grpc.StatusCode] = set()

    def is_told() -> bool:
        codes.add(answer_to(world, caller, row))
        return (who, what) in denied_by(server)

    wait_until(is_told, f"{who} is denied {what}")
    (code,) = codes
    return code


def server_of(world: World, row: str) -> Server:
    of_worker = row.startswith("TaskService") or row.endswith(" of a worker")
    server = world.cluster.workers["w1"] if of_worker else world.cluster.manager
    assert server is not None
    return server


@pytest.mark.parametrize("row", ANSWERS)
def test_who_is_known_and_denied_leaves_a_line(world: World, row: str) -> None:
    names = [name for name, code in ANSWERS[row].items() if code is DENIED]
    who = {"alice": "user alice", "bob": "user bob", "admin": "admin root", "w1": "worker w1"}
    for name in (each for each in ("bob", "w1", "admin") if each in names):
        assert try_until_told(world, server_of(world, row), name, row, who[name]) is DENIED


@pytest.mark.parametrize("row", ANSWERS)
def test_who_is_not_known_leaves_a_line(world: World, row: str) -> None:
    server = server_of(world, row)
    assert try_until_told(world, server, "revoked", row, "nobody known") is UNKNOWN


def test_no_line_is_of_another_form(world: World) -> None:
    cluster = world.cluster
    assert cluster.manager is not None
    for server in (cluster.manager, cluster.workers["w1"]):
        lines = [each for each in server.log.splitlines() if " denied who" in each]
        assert lines
        assert [each for each in lines if not LINE.fullmatch(each)] == []
