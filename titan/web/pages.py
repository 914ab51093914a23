"""The pages themselves: files that were built from `frontend/`, the same for everybody."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response

from titan.errors import AccessDenied
from titan.web.api import Api

STATIC: Final = Path(__file__).parent / "static"
# What a browser is told of a file; whatever the machine believes of its ending.
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
# Their names change with what is in them.
_FOR_EVER: Final = {"cache-control": "public, max-age=31536000, immutable"}
_ASK_AGAIN: Final = {"cache-control": "no-cache"}
_NOT_BUILT: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Titan</title>
<h1>The pages were not built</h1>
<p>In the source of Titan <code>make web</code> builds them. What they show is there all the same,
as JSON under <code>/api/v1</code>; <a href="/openapi.json">/openapi.json</a> describes it.</p>
</html>
"""


class Pages:
    """The endpoints that are no data."""

    def __init__(self, api: Api, *, is_secure: bool, static: Path = STATIC) -> None:
        self._api = api
        self._is_secure = is_secure
        self._static = static

    async def page(self, request: Request) -> Response:
        """A page, whichever it is: the script in it looks at its path.

        With a token it is exchanged for a cookie at once, so that it stays in no history.
        """
        token = request.query_params.get("token")
        if token is not None:
            try:
                self._api.viewers.by_token(token)
            except AccessDenied as error:
                return self._api.denied(request, error)
            # Of the path not what would name another host.
            path = "/" + request.scope["path"].lstrip("/")
            return self.logged_in(RedirectResponse(path, 303))
        name = request.path_params.get("path", "")
        file = self._find(name)
        if file is not None and file.name != "index.html":
            return _answer(file, _ASK_AGAIN)
        index = self._find("index.html")
        if index is None:
            return Response(_NOT_BUILT, media_type="text/html", headers=_ASK_AGAIN)
        return _answer(index, _ASK_AGAIN)

    async def asset(self, request: Request) -> Response:
        """A part of the pages."""
        file = self._find("assets/" + request.path_params["path"])
        if file is None:
            raise HTTPException(404, "there is no such file")
        return _answer(file, _FOR_EVER)

    def logged_in(self, response: Response) -> Response:
        """The answer to who has shown the token: the cookie that shows it from now on."""
        response.set_cookie(
            self._api.cookie_name,
            self._api.viewers.begin_session(),
            httponly=True,
            samesite="strict",
            secure=self._is_secure,
            path="/",
        )
        return response

    def _find(self, name: str) -> Path | None:
        """A file of the bundle by its path there. Nothing outside of it has one."""
        parts = name.split("/")
        if not all(parts) or any(part.startswith(".") or "\0" in part for part in parts):
            return None
        file = self._static.joinpath(*parts)
        try:
            return file if file.suffix in _TYPES and file.is_file() else None
        except OSError:
            # A name can be too long to be one of a file.
            return None


def _answer(file: Path, headers: dict[str, str]) -> Response:
    return FileResponse(file, headers=headers, media_type=_TYPES[file.suffix])
