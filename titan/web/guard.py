"""What every answer carries, and what is kept out before anything is looked at.

Another site's page can make a browser send requests here, also under a name of its own that it
lets mean this machine (DNS rebinding): a request for a host that is not ours is refused, and so
is a change that comes from a page of another origin.
"""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from titan.errors import InvalidJob, PermissionDenied

# Nothing but what this server serves: no inline script or style, no other host, no frame.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
# Of a request; a script that a job comes with has 1 MiB at most, too.
BODY_BYTES_MAX: Final = 1 << 20
# It takes no longer, or whoever sends it keeps others out.
BODY_SECONDS: Final = 20.0
LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class TooLarge(InvalidJob):
    """The body of a request is."""


class TooSlow(InvalidJob):
    """It does not come."""


class Guard:
    """ASGI middleware around all of it."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        """`hosts`: by which names this server may be called; None: by any, since its certificate
        says which."""
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or lets in."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        host = host_name(Headers(scope=scope).get("host", ""))
        if self._hosts is not None and host not in self._hosts:
            refusal = JSONResponse(
                {
                    "error": f"this server is not called {host!r}: open the URL that `titan web` "
                    "printed",
                    "code": "PERMISSION_DENIED",
                },
                421,
            )
            await refusal(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)


def allowed_hosts(listen_host: str) -> frozenset[str]:
    """By what names a server on loopback is called: that of a tunnel's other end is one of them."""
    return LOOPBACK_HOSTS | {listen_host.lower().strip("[]")}


def host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def check_origin(request: Request) -> None:
    """Raises PermissionDenied for a change that a page of another origin asks for."""
    origin = request.headers.get("origin")
    if origin is not None and origin != f"{request.url.scheme}://{request.headers.get('host', '')}":
        raise PermissionDenied(f"a page of {origin!r} asks for it, which is another origin")
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise PermissionDenied("a page of another site asks for it")


async def read_body(request: Request) -> bytes:
    """The whole body. Raises TooLarge, TooSlow, and InvalidJob where its sender has gone."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > BODY_BYTES_MAX:
                    raise TooLarge(f"the body is larger than {BODY_BYTES_MAX} bytes")
    except TimeoutError as error:
        raise TooSlow(f"the body did not come within {BODY_SECONDS:g} s") from error
    except ClientDisconnect as error:
        raise InvalidJob("the body ended before its end") from error
    return bytes(body)
