"""Nobody is taken for another: by a name that is a host's, nor in calls that come at once."""

from __future__ import annotations

import asyncio

import pytest

import titan
from tests.security.conftest import SecureCluster
from tests.security.impostor import impostor
from titan.errors import AccessDenied
from titan.tls.identity import Role

CALLS = 40


@pytest.mark.parametrize("role", [Role.USER, Role.ADMIN, Role.WORKER])
def test_who_is_called_like_a_host_is_not_its_manager(cluster: SecureCluster, role: Role) -> None:
    """Names stand in the subject, which was read for hosts once (RFC 9525, 2)."""
    alice = cluster.people.issue(Role.USER, "alice")
    folder = cluster.people.issue(role, "localhost", f"localhost-{role}")
    with impostor(folder, asks_certificate=False) as there:
        address = there.address.replace("127.0.0.1", "localhost")
        with (
            titan.Client(address, tls_dir=alice) as client,
            pytest.raises(AccessDenied, match="can't be spoken to: its certificate"),
        ):
            client.stats()
        assert there.calls == []


def test_calls_that_come_at_once_are_each_their_callers(cluster: SecureCluster) -> None:
    issue = cluster.people.issue
    folders = [issue(Role.USER, f"many{number}") for number in range(4)]

    async def submit_and_cancel(client: titan.AsyncClient, name: str) -> None:
        jobs = await asyncio.gather(*(client.submit(["true"], hold=True) for _ in range(CALLS)))
        shown = await asyncio.gather(*(job.show() for job in jobs))
        assert {each["user"] for each in shown} == {name}
        # None of the others' is among those that he may cancel.
        ended = await asyncio.gather(*(job.cancel() for job in jobs))
        assert {each["state"] for each in ended} == {"CANCELLED"}

    async def scenario() -> None:
        clients = [titan.AsyncClient(cluster.address, tls_dir=each) for each in folders]
        try:
            await asyncio.gather(
                *(
                    submit_and_cancel(client, folder.name)
                    for client, folder in zip(clients, folders, strict=True)
                )
            )
        finally:
            for each in clients:
                await each.close()

    asyncio.run(scenario())
