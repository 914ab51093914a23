"""The calls of `titan.Client` that steer jobs. `aio_control.py` is the same with await."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence

from titan.client import requests, submission, views
from titan.client.jobspec import JobSpec
from titan.client.moments import Moment, moment
from titan.client.session import Session
from titan.client.views import View
from titan.model import State


class Control:
    """The part of a client that changes jobs and the policy, and asks what decides on tasks."""

    def __init__(self, session: Session, user: str) -> None:
        self._session = session
        self._user = user

    def hold(
        self,
        *jobs: str | int,
        state: Sequence[str | State] = (),
        user: str | None = None,
        name: str | None = None,
    ) -> list[View]:
        """Starts no more tasks of those jobs, or of all that match, until `release`.

        What runs runs on. Says {job_id, state, held, suspended, priority,
        time_limit_seconds} of each; one that had ended is not changed.
        """
        request = requests.hold_request(
            jobs, user=self._user, filter=requests.filter_of(states=state, user=user, name=name)
        )
        return views.change_views(self._session.hold(request))

    def release(
        self,
        *jobs: str | int,
        state: Sequence[str | State] = (),
        user: str | None = None,
        name: str | None = None,
    ) -> list[View]:
        """Lifts the hold of those jobs, or of all that match. Says the same as `hold`."""
        request = requests.hold_request(
            jobs,
            user=self._user,
            filter=requests.filter_of(states=state, user=user, name=name),
            release=True,
        )
        return views.change_views(self._session.hold(request))

    def suspend(
        self,
        *jobs: str | int,
        state: Sequence[str | State] = (),
        user: str | None = None,
        name: str | None = None,
    ) -> list[View]:
        """Stops running tasks of those jobs, or of all that match, where they are.

        They keep their memory, and leave their cpus to others until `resume`; what waits is
        not started. Says the same as `hold`.
        """
        request = requests.suspend_request(
            jobs, user=self._user, filter=requests.filter_of(states=state, user=user, name=name)
        )
        return views.change_views(self._session.suspend(request))

    def resume(
        self,
        *jobs: str | int,
        state: Sequence[str | State] = (),
        user: str | None = None,
        name: str | None = None,
    ) -> list[View]:
        """Lets suspended jobs go on, as soon as their cpus are free. Says the same as `hold`."""
        request = requests.suspend_request(
            jobs,
            user=self._user,
            filter=requests.filter_of(states=state, user=user, name=name),
            resume=True,
        )
        return views.change_views(self._session.suspend(request))

    def update(
        self,
        *jobs: str | int,
        priority: int | None = None,
        time_limit: float | str | None = None,
        state: Sequence[str | State] = (),
        user: str | None = None,
        name: str | None = None,
    ) -> list[View]:
        """Gives those jobs, or all that match, another priority or time limit.

        None leaves it as it is; a time limit of "none" lifts it. A new one counts for running
        tasks too, from their start. Says the same as `hold`.
        """
        request = requests.update_request(
            jobs,
            user=self._user,
            filter=requests.filter_of(states=state, user=user, name=name),
            priority=priority,
            time_limit=time_limit,
        )
        return views.change_views(self._session.update(request))

    def requeue(
        self,
        *jobs: str | int,
        grace: float | str = requests.GRACE_SECONDS,
        request_id: str | bytes | None = None,
    ) -> list[View]:
        """Stops what runs of those jobs and puts it back to the queue.

        Of a job that has ended, the tasks that did not complete are submitted again as a new
        job. Says {job_id, state, submitted_again} of each: the number of the new job or None,
        and the state of what waits now. Repeated with the same `request_id` it changes nothing.
        """
        request = requests.requeue_request(
            jobs,
            user=self._user,
            grace=grace,
            request_id=submission.parse_request_id(request_id or secrets.token_bytes(16)),
        )
        return views.requeue_views(self._session.requeue(request))

    def why(self, job: str | int, *, at: Moment | None = None) -> View:
        """Why a task ("42", "42.7", "last", "name:x") waits, or how it came to be where it is.

        Of an array that is the first task that waits, if none is named. The verdict is NOW,
        LATER, NEVER, PLACED or ENDED.
        """
        request = requests.why_request(job, user=self._user, at=moment(at))
        return views.explanation_view(self._session.why(request).explanation)

    def tasks(
        self,
        job: str | int,
        *,
        first: int = 0,
        count: int = 0,
        at: Moment | None = None,
        stale: bool = False,
    ) -> View:
        """The states of a job's tasks, behind the first so many; count 0: up to a million.

        Says {job_id, array, total, first, states}: a letter for each task in the order of the
        indexes, P S R C F or X for CANCELLED.
        """
        request = requests.tasks_request(
            job, user=self._user, first=first, count=count, at=moment(at), stale=stale
        )
        return views.tasks_view(self._session.tasks(request))

    def plan(self, spec: JobSpec) -> View:
        """Where a job would go if it were submitted now, as `why` says it. Changes nothing."""
        (wanted,) = submission.submit_requests(
            [spec], user=self._user, request_id=secrets.token_bytes(16), environ=os.environb
        )
        answer = self._session.plan(requests.plan_request(wanted))
        return views.explanation_view(answer.explanations[0])

    def policy(self) -> View:
        """How tasks are ordered and placed."""
        return views.policy_view(self._session.policy())

    def set_policy(
        self,
        *,
        placement: str | None = None,
        order: str | None = None,
        fair_share: bool | None = None,
        preempt: str | None = None,
        reserve_after: float | str | None = None,
        user_limits: Mapping[str, float | str | None] | None = None,
    ) -> View:
        """Sets what is not None, for good, whatever the manager was started with.

        `user_limits` says how many cpus of a user may run at once, 0 or None for no limit; the
        user "" is each who is not named. Says how the policy is then. Raises InvalidJob for
        names that the manager does not know.
        """
        request = requests.policy_request(
            user=self._user,
            placement=placement,
            order=order,
            fair_share=fair_share,
            preempt=preempt,
            reserve_after=reserve_after,
            user_limits=user_limits,
        )
        return views.policy_view(self._session.set_policy(request))
