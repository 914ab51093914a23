"""The screen of `titan top`, driven by keys, over a manager that tests lead."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from tests.cli.test_hostile_text import HOSTILE, HostileManager, check_harmless, hostile
from tests.client.fake_manager import DEADLINE_SECONDS, FakeManager, array_of
from titan.cli.top.app import TopApp
from titan.cli.top.dialogs import Confirm, Help
from titan.cli.top.feed import Feed
from titan.client import retry
from titan.client.aio_session import AioSession
from titan.rpc.v1 import manager_pb2, types_pb2

__all__ = ["hostile"]

ALL = ("#summary", "#workers", "#jobs", "#pane", "#status", "#keys")


class Screen:
    """An app that runs without a terminal, and what stands on it."""

    def __init__(self, app: TopApp, pilot: Pilot[None]) -> None:
        self.app = app
        self._pilot = pilot

    def text(self, *parts: str) -> str:
        """What these parts show; as a default all of them."""
        shown = [self.app.query_one(part) for part in parts or ALL]
        return "\n".join(str(each.render()) for each in shown if each.display)

    async def press(self, *keys: str) -> None:
        """One after another."""
        await self._pilot.press(*keys)

    async def change(self, key: str) -> None:
        """One that opens or closes a dialog; to the end, so that the next key comes after it."""
        before = self.app.screen
        await self.press(key)
        await self.wait(lambda: self.app.screen is not before)

    async def answer(self, key: str, answer: str) -> None:
        """One that asks something, and the answer."""
        await self.change(key)
        assert isinstance(self.app.screen, Confirm)
        await self.change(answer)

    async def wait_jobs(self, *numbers: int) -> None:
        """Until they are these, from the top down."""
        await self.wait(lambda: job_column(self) == list(map(str, numbers)), f"jobs {numbers}")

    async def wait(self, condition: Callable[[], object], what: str = "") -> None:
        """Until it is true."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():
                await self._pilot.pause(0.01)
        assert condition(), what

    async def wait_text(self, text: str, *parts: str) -> None:
        """Until it stands there."""
        try:
            await self.wait(lambda: text in self.text(*parts))
        except TimeoutError:
            raise AssertionError(f"never: {text}\n{self.text()}") from None


@asynccontextmanager
async def top(
    manager: FakeManager,
    *,
    size: tuple[int, int] = (100, 30),
    limit: int = 200,
    **wanted: Any,
) -> AsyncIterator[Screen]:
    """A screen that looks twenty times a second."""
    told: list[Callable[[str], None]] = []

    def notice(sentence: str) -> None:
        told[0](sentence)

    async with (
        AioSession(
            manager.address,
            retry_for_seconds=retry.FOR_EVER,
            notice=notice,
        ) as session,
        AioSession(manager.address, retry_for_seconds=1.0) as control,
    ):
        feed = Feed(session, manager_pb2.JobFilter(**wanted), limit)
        app = TopApp(session, control, feed, user="alice", interval_seconds=0.05)
        told.append(app.tell_trouble)
        async with app.run_test(size=size) as pilot:
            screen = Screen(app, pilot)
            await screen.wait_text("record", "#summary")
            yield screen


def drive(coroutine: Coroutine[Any, Any, None]) -> None:
    """Runs a test's own loop."""
    asyncio.run(coroutine)


def job_column(screen: Screen) -> list[str]:
    """The numbers of the jobs, from the top down."""
    return re.findall(r"^ *(\d+) ", screen.text("#jobs"), re.MULTILINE)


@pytest.fixture
def busy(manager: FakeManager) -> FakeManager:
    """With a job that waits, one that runs, one that has ended, and a worker."""
    manager.add_job(name="waits", user="ada", waiting_for="no room", priority=5)
    runs = manager.add_job(name="[b]runs[/b]", user="bob")
    manager.run(runs)
    over = manager.add_job(name="over")
    manager.run(over)
    manager.end(over, exit_code=3)
    manager.workers.append(
        manager_pb2.Worker(
            worker_id=b"w" * 16, name="w1", state=types_pb2.HEALTHY, running=1,
            capacity=types_pb2.Resources(cpus_milli=4000),
            free=types_pb2.Resources(cpus_milli=3000),
        )
    )  # fmt: skip
    return manager


def test_it_shows_workers_and_jobs_what_runs_first_and_goes_on(busy: FakeManager) -> None:
    async def look() -> None:
        async with top(busy) as screen:
            await screen.wait_text("██░░░░░░░░ 1/4", "#workers")
            await screen.wait_jobs(2, 1)
            assert re.search(r"2  \[b\]runs\[/b\] +bob +RUNNING .* w1", screen.text("#jobs"))
            assert re.search(r"1  waits +ada +PENDING .* no room", screen.text("#jobs"))
            await screen.wait_text("2 of 2 jobs", "#status")
            busy.end(busy.jobs[2])
            busy.run(busy.jobs[1])
            await screen.wait(lambda: job_column(screen) == ["1"])

    drive(look())


def test_of_many_jobs_only_the_first_are_asked_for(busy: FakeManager) -> None:
    for _ in range(20):
        busy.add_job()

    async def look() -> None:
        async with top(busy, limit=5) as screen:
            await screen.wait(lambda: job_column(screen) == ["2", "1", "4", "5", "6"])
            assert "5 of 5+ jobs" in screen.text("#status")
            assert all(request.limit <= 5 for request in busy.called("ListJobs"))
            await screen.press("a")
            await screen.wait(lambda: job_column(screen) == ["23", "22", "21", "20", "19"])

    drive(look())


def test_the_filters_of_the_command_line_are_the_managers(busy: FakeManager) -> None:
    async def look() -> None:
        async with top(busy, user="ada") as screen:
            await screen.wait(lambda: job_column(screen) == ["1"])
            assert {each.filter.user for each in busy.called("ListJobs")} == {"ada"}
        async with top(busy, states=[types_pb2.FAILED], all=True) as screen:
            await screen.wait(lambda: job_column(screen) == ["3"])
            assert "exit code 3" in screen.text("#jobs")

    drive(look())


def test_keys_sort_and_filter_and_pause(busy: FakeManager) -> None:
    async def look() -> None:
        async with top(busy) as screen:
            await screen.wait(lambda: job_column(screen) == ["2", "1"])
            await screen.press("greater_than_sign")
            await screen.wait_jobs(1, 2)
            await screen.wait_text("JOB▼", "#jobs")
            await screen.press("r")
            await screen.wait_jobs(2, 1)
            await screen.wait_text("JOB▲", "#jobs")
            await screen.press("less_than_sign")
            await screen.wait_text("sorted by state", "#status")
            await screen.press("slash")
            await screen.wait(lambda: screen.app.query_one("#filter").has_focus)
            await screen.press(*"ADA q")
            # What is typed is no key of the screen.
            await screen.wait_jobs()
            await screen.press("backspace", "backspace", "enter")
            await screen.wait_jobs(1)
            await screen.wait_text("1 of 2 jobs  with ADA", "#status")
            await screen.press("escape")
            await screen.wait_jobs(2, 1)
            await screen.press("p")
            await screen.wait_text("paused", "#status")
            busy.end(busy.jobs[2])
            looks = len(busy.called("GetStats"))
            await screen.wait(lambda: len(busy.called("GetStats")) > looks + 2)
            assert job_column(screen) == ["2", "1"]
            await screen.press("p")
            await screen.wait(lambda: job_column(screen) == ["1"])

    drive(look())


def test_cancel_asks_first_and_says_what_became_of_it(busy: FakeManager) -> None:
    async def look() -> None:
        async with top(busy) as screen:
            await screen.wait(lambda: job_column(screen) == ["2", "1"])
            await screen.answer("c", "n")
            # The screen goes on to live behind the question.
            await screen.press("down")
            await screen.change("c")
            looks = len(busy.called("GetStats"))
            await screen.wait(lambda: len(busy.called("GetStats")) > looks + 2)
            assert not busy.called("CancelJob")
            await screen.change("y")
            await screen.wait_text("Cancelled job 1", "#status")
            assert [each.job_id for each in busy.called("CancelJob")[0].jobs] == [1]
            await screen.wait(lambda: job_column(screen) == ["2"])
            busy.fail("CancelJob", grpc.StatusCode.PERMISSION_DENIED, "job 2 is bob's, not yours")
            await screen.answer("c", "y")
            await screen.wait_text("job 2 is bob's, not yours", "#status")
            await screen.answer("c", "y")
            await screen.wait_text("Cancelling job 2: RUNNING (cancelling)", "#status")

    drive(look())


def test_a_job_is_held_and_released_and_a_worker_drained(busy: FakeManager) -> None:
    async def look() -> None:
        async with top(busy) as screen:
            await screen.wait(lambda: job_column(screen) == ["2", "1"])
            await screen.press("down", "h")
            await screen.wait_text("Held job 1", "#status")
            await screen.wait_text("PENDING (held)", "#jobs")
            await screen.press("h")
            await screen.wait_text("Released job 1", "#status")
            await screen.press("d")
            await screen.wait_text("choose a worker first", "#status")
            await screen.press("shift+tab")
            await screen.wait(lambda: screen.app.query_one("#workers").has_focus)
            await screen.answer("d", "y")
            await screen.wait(lambda: busy.called("DrainWorker"))
            # By its id: names need not be unique. This manager knows names only.
            assert busy.called("DrainWorker")[0].workers == [(b"w" * 16).hex()]
            await screen.wait_text("there is no worker", "#status")

    drive(look())


def test_the_output_of_the_chosen_job_is_followed(busy: FakeManager) -> None:
    busy.write(busy.jobs[2], b"first\n")

    async def look() -> None:
        async with top(busy) as screen:
            await screen.wait(lambda: job_column(screen) == ["2", "1"])
            await screen.press("l")
            await screen.wait_text("first", "#pane")
            await screen.wait_text("output of 2 ─", "#pane")
            busy.write(busy.jobs[2], b"[red]second[/red]\x1b[2J", err=True)
            await screen.wait_text("[red]second[/red]\\x1b[2J", "#pane")
            busy.end(busy.jobs[2])
            await screen.wait_text("output of 2 (ended)", "#pane")
            await screen.press("l")
            await screen.wait(lambda: not screen.app.query_one("#pane").display)
            # One that has not started is waited for.
            await screen.wait(lambda: job_column(screen) == ["1"])
            await screen.press("l")
            await screen.wait_text("output of 1 (it is PENDING)", "#pane")
            busy.run(busy.jobs[1])
            busy.write(busy.jobs[1], b"begun\n")
            await screen.wait_text("begun", "#pane")

    drive(look())


def test_of_an_array_one_task_after_another_is_followed(manager: FakeManager) -> None:
    array = manager.add_job(array=array_of((0, 3)))
    for index in range(2):
        manager.run(array, index)
        manager.write(array, b"by %d\n" % index, index)

    async def look() -> None:
        async with top(manager) as screen:
            await screen.wait(lambda: job_column(screen) == ["1"])
            await screen.press("l")
            await screen.wait_text("by 0", "#pane")
            manager.end(array, 0)
            await screen.wait_text("by 1", "#pane")
            await screen.wait_text("by 0\n— 1.1 —\nby 1", "#pane")
            await screen.wait_text("output of 1.1 ─", "#pane")

    drive(look())


def test_why_a_job_waits_stands_in_the_pane(busy: FakeManager) -> None:
    busy.explanation.CopyFrom(
        manager_pb2.Explanation(state=types_pb2.PENDING, sentence="no [b]room[/b] for it " * 9)
    )

    async def look() -> None:
        async with top(busy, size=(80, 24)) as screen:
            await screen.wait(lambda: job_column(screen) == ["2", "1"])
            await screen.press("end", "w")
            await screen.wait_text("1 (waits) PENDING: no [b]room[/b]", "#pane")
            assert all(len(line) <= 80 for line in screen.text("#pane").splitlines())
            # What is open makes way.
            await screen.press("l")
            await screen.wait_text("output of 1", "#pane")
            await screen.press("escape")
            await screen.wait(lambda: not screen.app.query_one("#pane").display)

    drive(look())


def test_it_says_that_the_manager_is_away_and_goes_on_when_it_is_back(busy: FakeManager) -> None:
    busy.write(busy.jobs[2], b"before\n")

    async def look() -> None:
        async with top(busy) as screen:
            await screen.wait(lambda: job_column(screen) == ["2", "1"])
            await screen.press("l")
            await screen.wait_text("before", "#pane")
            await asyncio.to_thread(busy.stop)
            await screen.wait_text("lost the manager at", "#status")
            assert job_column(screen) == ["2", "1"]
            await screen.answer("c", "y")
            await screen.wait_text("no manager answers at", "#status")
            await asyncio.to_thread(busy.start)
            busy.write(busy.jobs[2], b"after\n")
            busy.add_job(name="new")
            await screen.wait(lambda: job_column(screen) == ["2", "1", "4"])
            await screen.wait(lambda: "lost the manager" not in screen.text("#status"))
            await screen.wait_text("before\nafter", "#pane")

    drive(look())


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        (("q",), 0), (("slash", "ctrl+q"), 0), (("ctrl+c",), 130), (("slash", "ctrl+c"), 130),
        (("c", "ctrl+c"), 130), (("question_mark", "q", "q"), 0),
    ],
)  # fmt: skip
def test_it_ends_from_wherever_one_is(busy: FakeManager, keys: tuple[str, ...], code: int) -> None:
    async def look() -> None:
        async with top(busy) as screen:
            await screen.wait(lambda: job_column(screen))
            for key in keys:
                if key in {"c", "question_mark"} or isinstance(screen.app.screen, Help):
                    await screen.change(key)
                else:
                    await screen.press(key)
            await screen.wait(lambda: screen.app.return_code is not None)
            assert screen.app.return_code == code

    drive(look())


def test_what_is_told_before_there_is_a_screen_and_after_is_no_error(busy: FakeManager) -> None:
    async def look() -> None:
        async with AioSession(busy.address) as session:
            feed = Feed(session, manager_pb2.JobFilter(), 10)
            app = TopApp(session, session, feed, user="alice", interval_seconds=0.05)
            app.tell_trouble("early")
            async with app.run_test() as pilot:
                screen = Screen(app, pilot)
                await screen.wait(lambda: job_column(screen))
            app.tell_trouble("late")
            app.action_sort(1)

    drive(look())


def test_help_tells_every_key_that_is_bound() -> None:
    from titan.cli.top.dialogs import HELP

    shown = {word for line in HELP.splitlines() for word in line.split("  ")[0].split()}
    names = {
        "question_mark": "?", "greater_than_sign": ">", "less_than_sign": "<", "slash": "/",
        "escape": "Esc", "enter": "Enter", "space": "Space",
    }  # fmt: skip
    others = {"?", "ctrl+q", "ctrl+c", "f1", "s"}
    bound = {key for each in TopApp.BINDINGS for key in each.key.split(",")}  # type: ignore[union-attr]
    assert {names.get(key, key) for key in bound} - others <= shown


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (30, 6), (200, 60)])
def test_it_is_drawn_at_any_size_and_again_at_another(
    busy: FakeManager, size: tuple[int, int]
) -> None:
    async def look() -> None:
        async with top(busy, size=size) as screen:
            await screen.wait(lambda: "2" in job_column(screen))
            await screen.app.run_action("output")
            await screen.wait_text("output of 2", "#pane")
            if size[0] >= 60:
                for part in ("#summary", "#workers", "#jobs", "#pane"):
                    assert max(map(len, screen.text(part).splitlines())) <= size[0]

    drive(look())


def test_nothing_of_it_is_what_a_terminal_acts_upon(hostile: HostileManager) -> None:
    async def look() -> None:
        async with top(hostile, size=(400, 40)) as screen:
            await screen.wait_text("\\x1b[2J", "#jobs")
            refusal = HOSTILE.replace("\0", "")
            hostile.fail("HoldJob", grpc.StatusCode.PERMISSION_DENIED, refusal)
            for key, part in (("w", "#pane"), ("h", "#status")):
                await screen.press(key)
                await screen.wait_text("\\x1b[2J", part)
                check_harmless(screen.text())
            hostile.fail("GetStats", grpc.StatusCode.PERMISSION_DENIED, refusal, count=1000)
            await screen.change("c")
            check_harmless(str(screen.app.screen.query_one(Static).render()))
            await screen.change("n")
            await screen.press("slash", "x")
            await screen.wait_text("\\x1b[2J", "#status")
            check_harmless(screen.text())

    drive(look())
