"""The states of tasks, from both clients."""

from __future__ import annotations

import asyncio

from tests.client.fake_manager import PAST_LSN, FakeManager, array_of
from titan import AsyncClient, Client
from titan.client.views import TASK_LETTERS
from titan.model import State


def test_the_states_of_tasks_are_letters(manager: FakeManager) -> None:
    job = manager.add_job(array=array_of((2, 6)))
    manager.run(job, 3)
    manager.end(job, 3)
    wanted = {"job_id": 1, "array": "2-5", "total": 4, "first": 0, "states": "PCPP"}
    with Client() as client:
        assert client.tasks(1) == wanted
        assert client.tasks("1", first=1, count=2)["states"] == "CP"
        client.tasks(1, at=PAST_LSN)
    assert manager.called("ListTasks")[-1].at.lsn == PAST_LSN

    async def ask() -> None:
        async with AsyncClient() as client:
            assert await client.tasks(1) == wanted

    asyncio.run(ask())


def test_each_state_of_a_task_has_its_letter() -> None:
    assert set(TASK_LETTERS) == {each for each in State if each <= State.CANCELLED}
    assert len(set(TASK_LETTERS.values())) == len(TASK_LETTERS)
