"""All that is served, by path."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from titan import __version__
from titan.client.aio_session import AioSession
from titan.client.views import View
from titan.errors import AccessDenied, InvalidJob, TitanError
from titan.tls.peers import Peers
from titan.web.answers import Answer, check_keys, read_object, refusal, refused
from titan.web.api import Api, Call
from titan.web.changing import Changing
from titan.web.guard import Guard, check_origin
from titan.web.history import History
from titan.web.live import Live
from titan.web.openapi import DOCUMENT
from titan.web.pages import STATIC, Pages
from titan.web.reading import Reading
from titan.web.viewers import Viewers

API: Final = "/api/v1"


class Terms(NamedTuple):
    """On what terms it is served."""

    token: str
    own_name: str
    """Whom the manager takes this server for."""
    is_proven: bool = False
    """Whether by its certificate, whatever it says."""
    allows_changes: bool = False
    hosts: frozenset[str] | None = None
    """By which names it may be called; None: any."""
    peers: Peers | None = None
    """Who shows a certificate; None: nobody does, and nothing is encrypted."""
    cookie_name: str = "titan"
    static: Path = STATIC


def make_app(session: AioSession, live: Live, terms: Terms) -> Starlette:
    """The application. Whoever runs it closes both."""
    api = Api(
        Viewers(terms.token, terms.own_name),
        cookie_name=terms.cookie_name,
        allows_changes=terms.allows_changes,
        peers=terms.peers,
    )
    pages = Pages(api, is_secure=terms.peers is not None, static=terms.static)
    history = History(session)
    login = _Login(session, live, api, pages, history)
    reading = Reading(session, live)
    changing = Changing(session, live, own_name=terms.own_name, is_proven=terms.is_proven)
    reads = {
        "/session": login.show,
        "/stats": reading.stats,
        "/workers": reading.workers,
        "/jobs": reading.jobs,
        "/jobs/{job}": reading.job,
        "/jobs/{job}/events": reading.events,
        "/jobs/{job}/why": reading.why,
        "/jobs/{job}/output": reading.output,
        "/jobs/{job}/tasks": reading.tasks,
        "/workflow/{job}": reading.workflow,
        "/moments": reading.moments,
        "/events": reading.live_events,
        "/timeline": history.timeline,
        "/history/usage": history.usage,
        "/history/totals": history.totals,
        "/history/attempts": history.attempts,
        "/history/failing": history.failing,
    }
    changes = {
        "/jobs": changing.submit,
        "/jobs/{job}/cancel": changing.cancel,
        "/jobs/{job}/hold": changing.hold,
        "/jobs/{job}/release": changing.release,
        "/workers/{worker}/drain": changing.drain,
        "/workers/{worker}/undrain": changing.undrain,
    }
    routes = [
        Route(API + "/session", login.begin, methods=["POST"]),
        Route(API + "/session", login.end, methods=["DELETE"]),
        *(Route(API + path, api.reads(each), methods=["GET"]) for path, each in reads.items()),
        *(Route(API + path, api.changes(each), methods=["POST"]) for path, each in changes.items()),
        Route(API + "/{path:path}", _nothing, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        Route("/openapi.json", _describe, methods=["GET"]),
        Route("/assets/{path:path}", pages.asset, methods=["GET"]),
        Route("/{path:path}", pages.page, methods=["GET"]),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refuse})
    app.router.redirect_slashes = False
    app.add_middleware(Guard, hosts=terms.hosts)
    return app


class _Login:
    """Who looks, and since when."""

    def __init__(
        self, session: AioSession, live: Live, api: Api, pages: Pages, history: History
    ) -> None:
        self._history = history
        self._session = session
        self._live = live
        self._api = api
        self._pages = pages

    async def show(self, call: Call) -> View:
        """Who the viewer is, what he may do, and what he looks at."""
        call.query.check_all_read()
        cluster_id = None
        # That the manager is away the page tells; for that it has to know who looks.
        with suppress(TitanError):
            cluster_id = str(UUID(bytes=(await self._live.stats.get()).cluster_id))
        return {
            "user": call.viewer.name,
            "admin": call.viewer.is_admin,
            "writable": self._api.allows_changes,
            "csrf": self._api.viewers.csrf(call.viewer),
            "version": __version__,
            "manager": self._session.address,
            "cluster_id": cluster_id,
            "history": await self._history.is_written(),
        }

    async def begin(self, request: Request) -> Response:
        """Exchanges the token for a cookie."""
        try:
            check_origin(request)
            given = await read_object(request)
            check_keys(given, "token")
            token = given.get("token")
            if not isinstance(token, str):
                raise InvalidJob('the body is {"token": …}')
            self._api.viewers.by_token(token)
        except AccessDenied as error:
            return self._api.denied(request, error)
        except TitanError as error:
            return refusal(error)
        return self._pages.logged_in(Response(status_code=204))

    async def end(self, request: Request) -> Response:
        """Logs out."""
        try:
            viewer = self._api.viewer_of(request)
            self._api.check_change(request, viewer)
        except TitanError as error:
            return refusal(error)
        self._api.viewers.end_session(viewer)
        response = Response(status_code=204)
        response.delete_cookie(self._api.cookie_name, path="/")
        return response


async def _describe(_: Request) -> Answer:
    return Answer(DOCUMENT)


async def _nothing(request: Request) -> Answer:
    # Starlette tries all of them before those that are for another method.
    if any(each.matches(request.scope)[0] is Match.PARTIAL for each in request.app.routes):
        raise HTTPException(405)
    return refused(404, "NOT_FOUND", f"there is no {request.url.path}; see /openapi.json")


async def _refuse(request: Request, error: Exception) -> Answer:
    assert isinstance(error, HTTPException)
    code = {404: "NOT_FOUND", 405: "UNIMPLEMENTED"}.get(error.status_code, "UNKNOWN")
    sentence = (
        error.detail if error.status_code != 405 else f"{request.method} is not for this path"
    )
    return refused(error.status_code, code, sentence)
