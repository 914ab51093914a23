"""The screen of `titan top`: what is where, and what keys do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, ClassVar, Final

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, Static

from titan.cli.cancel import cancel_sentence
from titan.cli.describe import drain_sentence, held_text, state_text
from titan.cli.explain import why_lines
from titan.cli.text import local_time, printable
from titan.cli.top.dialogs import Confirm, Help
from titan.cli.top.feed import Feed, pause_seconds
from titan.cli.top.listing import Listing, contents
from titan.cli.top.model import (
    Order,
    Rates,
    Snapshot,
    filter_jobs,
    job_lines,
    summary_lines,
    worker_lines,
)
from titan.cli.top.pane import Pane
from titan.client import requests
from titan.client.aio_session import AioSession
from titan.errors import TitanError
from titan.rpc.v1 import manager_pb2

INTERRUPTED: Final = 130
_SUMMARY_LINES: Final = 4
_KEYS: Final = (
    *("? help", "q quit", "/ filter", "> sort", "l output", "w why", "c cancel", "h hold"),
    *("Tab workers", "d drain", "a ended too", "p pause"),
)


class TopApp(App[None]):
    """Looks at the cluster every so many seconds, and does what keys say.

    `session` reconnects for ever and only reads; what is changed goes through `control`, whose
    calls end with an error.
    """

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { background: ansi_default; }
    #summary { height: 4; }
    #workers { height: 2; }
    #jobs { height: 1fr; }
    #pane { height: 1fr; display: none; }
    #filter {
        height: 1; border: none; padding: 0; background: ansi_default; display: none;
    }
    #status, #keys { height: 1; }
    #summary, #status, #keys { text-wrap: nowrap; text-overflow: clip; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "leave(0)"),
        Binding("ctrl+q", "leave(0)", priority=True),
        Binding("ctrl+c", f"leave({INTERRUPTED})", priority=True),
        Binding("question_mark,f1", "help"),
        Binding("greater_than_sign,s", "sort(1)"),
        Binding("less_than_sign", "sort(-1)"),
        Binding("r", "turn"),
        Binding("slash", "filter"),
        Binding("escape", "close"),
        Binding("a", "ended"),
        Binding("l", "output"),
        Binding("w,enter", "why"),
        Binding("c", "cancel"),
        Binding("h", "hold"),
        Binding("d", "drain"),
        Binding("p,space", "pause"),
    ]

    def __init__(
        self,
        session: AioSession,
        control: AioSession,
        feed: Feed,
        *,
        user: str,
        interval_seconds: float,
    ) -> None:
        super().__init__(ansi_color=True)
        self._session = session
        self._control = control
        self._feed = feed
        self._user = user
        self._interval_seconds = interval_seconds
        self._rates = Rates()
        self._order = Order()
        self._filter = ""
        self._snapshot: Snapshot | None = None
        self._shown: dict[int, manager_pb2.Job] = {}
        self._is_paused = False
        # What was done last, and what the manager does not.
        self._said = ""
        self._trouble = ""
        self._look_now = asyncio.Event()
        # Kept by hand: answers may come while the screen is not there yet, or no more.
        self._summary = Static(id="summary")
        self._machines = Listing(id="workers", nothing="no workers")
        self._jobs = Listing(id="jobs", nothing="no jobs")
        self._pane = Pane(id="pane")
        self._words = Input(id="filter", compact=True, placeholder="words, such as ada running")
        self._status = Static(id="status")

    def compose(self) -> ComposeResult:
        """From the top down."""
        yield self._summary
        yield self._machines
        yield self._jobs
        yield self._pane
        yield self._words
        yield self._status
        yield Static(Content("  ".join(_KEYS)), id="keys")

    def on_mount(self) -> None:
        """Begins to look."""
        self._jobs.focus()
        self._draw()
        self.run_worker(self._look_for_ever(), group="look")

    def on_resize(self) -> None:
        """The summary is made for a width."""
        self._draw()

    def tell_trouble(self, sentence: str) -> None:
        """The manager is away, or has too much to do; until it answers again."""
        self._trouble = sentence.removesuffix(" (Ctrl-C stops waiting)")
        self._draw_status()

    async def _look_for_ever(self) -> None:
        while True:
            began = time.monotonic()
            search_seconds = 0.0
            try:
                snapshot = await self._feed.look()
            except TitanError as error:
                self.tell_trouble(str(error))
            else:
                if not self._trouble:
                    # Else it waited for a manager that was away.
                    search_seconds = self._feed.search_seconds
                self._trouble = ""
                self._rates.take(time.monotonic(), snapshot.stats.tasks)
                if not self._is_paused:
                    self._snapshot = snapshot
                    self._draw()
                self._draw_status()
            took = time.monotonic() - began
            pause = pause_seconds(self._interval_seconds, took, search_seconds)
            self._look_now.clear()
            try:
                async with asyncio.timeout(pause):
                    await self._look_now.wait()
            except TimeoutError:
                pass

    def _draw(self) -> None:
        now = time.time()
        snapshot = self._snapshot
        head = summary_lines(
            snapshot, self._rates, self._feed.address, self.size.width, local_time(now)
        )
        self._summary.update(contents(list(head)))
        if snapshot is None:
            return
        # The manager's clock and this machine's may differ; ages are by the manager's.
        now = snapshot.stats.now_us / 1e6 or now
        workers, order = snapshot.workers, self._order
        room = max(2, self.size.height // 3 - _SUMMARY_LINES)
        self._machines.styles.height = min(max(1, len(workers)), room) + 1
        self._machines.show(
            [each.worker_id for each in workers], lambda width: worker_lines(workers, now, width)
        )
        jobs = order.sorted(filter_jobs(snapshot.jobs, self._filter, now))
        self._shown = {job.job_id: job for job in jobs}
        self._jobs.show(list(self._shown), lambda width: job_lines(jobs, now, width, order))
        self._draw_status()

    def _draw_status(self) -> None:
        parts = []
        if self._is_paused:
            parts.append(("paused", "bold ansi_yellow"))
        if self._said:
            parts.append((self._said, "bold"))
        if self._trouble:
            parts.append((printable(self._trouble), "bold ansi_red"))
        if self._snapshot is not None:
            shown, more = len(self._shown), "+" if self._snapshot.has_more else ""
            parts.append((f"{shown} of {len(self._snapshot.jobs)}{more} jobs", ""))
        if self._filter:
            parts.append((f"with {printable(self._filter)}", ""))
        line = [piece for part in parts for piece in (("  ", ""), part)][1:]
        self._status.update(contents([line]))

    def _say(self, sentence: str) -> None:
        """What became of a key, safe to print; until the next one."""
        self._said = sentence
        self._draw_status()

    def action_leave(self, code: int) -> None:
        """Ends it."""
        self.exit(return_code=code)

    def action_help(self) -> None:
        """Shows the keys."""
        self.push_screen(Help())

    def action_sort(self, step: int) -> None:
        """By another column."""
        self._order = self._order.moved(step)
        self._say(f"sorted by {self._order.heading or 'state, then age'}")
        self._draw()

    def action_turn(self) -> None:
        """The other way round."""
        self._order = self._order.turned()
        self._draw()

    def action_pause(self) -> None:
        """Lets the screen stand, or go on."""
        self._is_paused = not self._is_paused
        self._look_now.set()
        self._say("")

    def action_ended(self) -> None:
        """Shows ended jobs too, or not any more."""
        is_shown = self._feed.toggle_ended()
        self._say("ended jobs too, the newest first" if is_shown else "")
        self._look_now.set()

    def action_filter(self) -> None:
        """Asks for words."""
        self._words.value = self._filter
        self._words.display = True
        self._words.focus()

    def on_input_changed(self, changed: Input.Changed) -> None:
        """Words are looked for while they are typed."""
        self._filter = changed.value
        self._draw()

    def on_input_submitted(self) -> None:
        """Goes back to the jobs."""
        self._close_filter()

    def _close_filter(self) -> None:
        self._words.display = False
        self._jobs.focus()

    def action_close(self) -> None:
        """Closes the pane, else takes the words away."""
        if self._words.display or not self._pane.display:
            self._words.value = self._filter = ""
            self._close_filter()
            self._draw()
        else:
            self._close_pane()

    def _close_pane(self) -> None:
        self.workers.cancel_group(self, "pane")
        self._pane.display = False

    def _chosen_job(self) -> manager_pb2.Job | None:
        job = self._shown.get(self._jobs.chosen)
        if job is None:
            self._say("there is no job to do that to")
        return job

    def action_output(self) -> None:
        """Follows what the chosen job writes, or closes that."""
        is_open = self._pane.display and self._pane.is_output
        self._close_pane()
        job = None if is_open else self._chosen_job()
        if job is not None:
            self._pane.display = True
            self._do(self._pane.follow(self._session, job.job_id), "pane")

    def action_why(self) -> None:
        """Tells why the chosen job waits, or how it came to be where it is."""
        job = self._chosen_job()
        if job is not None:
            self._do(self._tell_why(job), "pane")

    async def _tell_why(self, job: manager_pb2.Job) -> None:
        request = requests.why_request(job.job_id, user=self._user)
        answer = await self._control.why(request)
        lines = list(why_lines(answer.explanation, job, time.time()))
        self._pane.display = True
        self._pane.show_text(f"why {job.job_id}", lines)

    def action_cancel(self) -> None:
        """Asks, then cancels the chosen job."""
        job = self._chosen_job()
        if job is None:
            return

        def answered(is_yes: bool | None) -> None:
            if is_yes:
                self._do(self._cancel(job.job_id), "change")

        name = printable(job.name)
        question = f"Cancel job {job.job_id} ({name}) of {printable(job.user)}?"
        self.push_screen(Confirm(question), answered)

    async def _cancel(self, job_id: int) -> None:
        request = requests.cancel_request([job_id], user=self._user, grace=requests.GRACE_SECONDS)
        answer = await self._control.cancel(request)
        for job in answer.jobs:
            self._say(cancel_sentence(job, had_ended=job.job_id in answer.already_ended))

    def action_hold(self) -> None:
        """Holds the chosen job, or releases it."""
        job = self._chosen_job()
        if job is not None:
            self._do(self._hold(job.job_id, release=job.scheduling.held), "change")

    async def _hold(self, job_id: int, *, release: bool) -> None:
        request = requests.hold_request([job_id], user=self._user, release=release)
        answer = await self._control.hold(request)
        for job in answer.jobs:
            if job.job_id in answer.already_ended:
                self._say(f"Job {job.job_id} has ended: {state_text(job)}")
            else:
                self._say(f"{'Released' if release else 'Held'} job {job.job_id}")

    def action_drain(self) -> None:
        """Asks, then drains the chosen worker, or lifts its drain."""
        listed = self._snapshot.workers if self._snapshot else ()
        worker = next((each for each in listed if each.worker_id == self._machines.chosen), None)
        if worker is None or not self._machines.has_focus:
            self._say("choose a worker first: Tab goes to them")
            return

        def answered(is_yes: bool | None) -> None:
            if is_yes:
                self._do(self._drain(worker), "change")

        name = printable(worker.name)
        question = (
            f"Give {name} tasks again?"
            if worker.draining
            else f"Drain {name}? It gets no new tasks; now: {held_text(worker)}."
        )
        self.push_screen(Confirm(question), answered)

    async def _drain(self, worker: manager_pb2.Worker) -> None:
        request = requests.drain_request(
            [worker.worker_id.hex()], user=self._user, undrain=worker.draining
        )
        for each in (await self._control.drain(request)).workers:
            self._say(printable(drain_sentence(each)))

    def _do(self, work: Coroutine[Any, Any, None], group: str) -> None:
        """What takes a call; in the pane a new one takes the place of the one before."""

        async def done() -> None:
            try:
                await work
            except TitanError as error:
                self._say(printable(str(error)))
            if group == "change":
                self._look_now.set()

        if group == "pane":
            self.workers.cancel_group(self, group)
        self._say("")
        self.run_worker(done(), group=group)
