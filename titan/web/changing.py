"""What is done: each handler makes one call of the manager, as the user whom it is done for.

The manager sees this server. So it is looked at here whether who shows a certificate of his own
may do it: users change their own jobs, admins everything, and who has the token what this server
may.
"""

from __future__ import annotations

import os
import secrets
from typing import Any, Final

from titan.client import requests, submission, views
from titan.client.aio_session import AioSession
from titan.client.flow_keys import KEYS, fields_of
from titan.client.jobspec import JobSpec
from titan.client.views import View
from titan.errors import InvalidJob, PermissionDenied
from titan.web.answers import Answer, check_keys, job_of, read_object
from titan.web.api import Call
from titan.web.live import Live
from titan.web.viewers import Viewer

# They read this machine's files or this process's environment, which are not the viewer's.
_NOT_HERE: Final = frozenset({"script", "secret_env", "export"})
SUBMIT_KEYS: Final = tuple(key for key in KEYS if key not in _NOT_HERE)


class Changing:
    """The handlers of POST."""

    def __init__(self, session: AioSession, live: Live, *, own_name: str, is_proven: bool) -> None:
        """`own_name` is whom the manager takes this server for; `is_proven`: whatever it says."""
        self._session = session
        self._live = live
        self._own_name = own_name
        self._is_proven = is_proven

    async def submit(self, call: Call) -> Answer:
        """A job, by the names of FLOW.toml."""
        call.query.check_all_read()
        wanted = await read_object(call.request)
        check_keys(wanted, *SUBMIT_KEYS, "request_id")
        request_id = wanted.pop("request_id", None) or secrets.token_bytes(16)
        if not isinstance(request_id, str | bytes):
            raise InvalidJob("request_id is 32 hexadecimal digits")
        (request,) = submission.submit_requests(
            [_job_spec(wanted)],
            user=self._user(call.viewer),
            request_id=submission.parse_request_id(request_id),
            environ=os.environb,
        )
        answer = await self._session.submit(request)
        return Answer({"job_id": answer.job_ids[0]}, 201)

    async def cancel(self, call: Call) -> list[View]:
        """A job, or a task of it."""
        job = await self._own_job(call)
        wanted = await read_object(call.request)
        check_keys(wanted, "grace_seconds", "signal")
        grace = wanted.get("grace_seconds")
        signal = wanted.get("signal")
        if grace is not None and (isinstance(grace, bool) or not isinstance(grace, int | float)):
            raise InvalidJob("grace_seconds is a number")
        if signal is not None and not isinstance(signal, str):
            raise InvalidJob('signal is a name, such as "INT"')
        request = requests.cancel_request(
            [job],
            user=call.viewer.name,
            grace=requests.GRACE_SECONDS if grace is None else grace,
            signal=signal or "TERM",
        )
        return [views.outcome_view(job) for job in (await self._session.cancel(request)).jobs]

    async def hold(self, call: Call) -> list[View]:
        """Starts no more of its tasks."""
        return await self._hold(call, release=False)

    async def release(self, call: Call) -> list[View]:
        """Lets it go on."""
        return await self._hold(call, release=True)

    async def drain(self, call: Call) -> View:
        """Gives a worker no more tasks."""
        wanted = await read_object(call.request)
        check_keys(wanted, "reason")
        reason = wanted.get("reason") or ""
        if not isinstance(reason, str):
            raise InvalidJob("reason is a text")
        return await self._drain(call, reason=reason)

    async def undrain(self, call: Call) -> View:
        """Gives it tasks again."""
        check_keys(await read_object(call.request))
        return await self._drain(call, undrain=True)

    async def _hold(self, call: Call, *, release: bool) -> list[View]:
        job = await self._own_job(call)
        check_keys(await read_object(call.request))
        request = requests.hold_request([job], user=call.viewer.name, release=release)
        return views.change_views(await self._session.hold(request))

    async def _drain(self, call: Call, *, reason: str = "", undrain: bool = False) -> View:
        call.query.check_all_read()
        call.viewer.check_admin("draining workers")
        request = requests.drain_request(
            [call.request.path_params["worker"]],
            user=call.viewer.name,
            reason=reason,
            undrain=undrain,
        )
        answer = await self._session.drain(request)
        # The next look at it sees that.
        self._live.workers.forget()
        return views.worker_view(answer.workers[0])

    async def _own_job(self, call: Call) -> str:
        """The job that is meant. Raises PermissionDenied where it is not the viewer's to change."""
        call.query.check_all_read()
        job = job_of(call.request)
        if not call.viewer.is_admin:
            job_id = int(job.partition(".")[0])
            answer = await self._session.status(requests.whole_job_request(job_id))
            call.viewer.check_owns(answer.job.user, job_id)
        return job

    def _user(self, viewer: Viewer) -> str:
        """As whom a viewer's jobs are submitted. Raises PermissionDenied."""
        if self._is_proven and not viewer.is_admin and viewer.name != self._own_name:
            raise PermissionDenied(
                f"what is submitted here is submitted as {self._own_name}, and you are user "
                f"{viewer.name}: use `titan submit`"
            )
        return viewer.name


def _job_spec(wanted: dict[str, Any]) -> JobSpec:
    """The job that these keys say. Raises InvalidJob."""
    if sum(key in wanted for key in ("command", "shell", "worker_script")) != 1:
        raise InvalidJob("say what to run: one of command, shell and worker_script")
    fields: dict[str, Any] = {}
    for key, value in wanted.items():
        if value is None:
            continue
        try:
            fields.update(fields_of(key, value, os.getcwd()))
        except (InvalidJob, ValueError) as error:
            raise InvalidJob(f"{key}: {error}") from error
    return JobSpec(**fields)
