"""One cluster, one server of pages and one browser for a module; each test opens its own pages."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Response,
    sync_playwright,
)

from tests.cluster import REPOSITORY, Cluster
from tests.web.browser.site import Site
from tools.bundle import BundleError, bundle

CHROMIUM_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-crash-reporter",
)  # fmt: skip
# Enough on a machine that does much else; nothing waits for it to pass.
TIMEOUT_MS = 60_000


def skip_or_fail(why: str) -> None:
    """Skips loudly; where tests must not be skipped it fails."""
    assert not os.environ.get("TITAN_CI"), why
    pytest.skip(why)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The system's browser."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        skip_or_fail("no chromium is installed: apt-get install chromium")
    assert found is not None
    return found


@pytest.fixture(scope="session")
def bundled() -> Path:
    """The pages as they are now; built once for all processes that run tests."""
    try:
        return bundle(REPOSITORY, with_tools=True)
    except BundleError as error:
        skip_or_fail(f"the pages cannot be bundled: {error}")
        raise


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, bundled: Path) -> Iterator[Cluster]:
    """A manager with history, and two workers."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as made:
        del made.environment["TITAN_MANAGER_HISTORY"]
        made.start_manager()
        made.start_worker("w1", "--cpus", "4", "--resource", "gpu=2")
        made.start_worker("w2", "--cpus", "2")
        yield made


@pytest.fixture(scope="module")
def serve(cluster: Cluster) -> Callable[..., str]:
    """Starts `titan web`; returns the address that it prints, with a token in it."""

    def start(*options: str) -> str:
        server = cluster.spawn("web", "--listen", "127.0.0.1:0", *options, name="web")
        server.wait_log("The cluster is shown at")
        found = re.search(r"shown at (\S+)", server.log)
        assert found
        return found[1]

    return start


@pytest.fixture(scope="module")
def browser(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """It keeps nothing, and nothing of it is kept outside the tests' directory."""
    home = tmp_path_factory.mktemp("browser")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium,
            args=[*CHROMIUM_OPTIONS],
            env={**os.environ, "HOME": str(home), "TMPDIR": str(home)},
        )
        yield started
        started.close()


@pytest.fixture(scope="module")
def site(serve: Callable[..., str], cluster: Cluster, browser: Browser) -> Site:
    """Pages that may change things, and a way in."""
    return Site(serve("--allow-changes"), cluster, browser)


@pytest.fixture
def open_page(site: Site) -> Iterator[Callable[..., Page]]:
    """Opens pages that are logged in; what they complain of to the console fails the test."""
    complaints: list[str] = []
    contexts: list[BrowserContext] = []

    def note(message: ConsoleMessage) -> None:
        # A server that is away, or an answer that refuses, is what some tests are about.
        if message.type == "error" and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    def look(response: Response) -> None:
        if response.status == HTTPStatus.BAD_REQUEST and response.request.method == "GET":
            complaints.append(f"{response.url} is no question")

    def start(path: str, **settings: Any) -> Page:
        context = site.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.on("console", note)
        page.on("response", look)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(site.base + path)
        return page

    yield start
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures are left: TITAN_SCREENSHOTS, or the tests' directory."""
    named = os.environ.get("TITAN_SCREENSHOTS")
    directory = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    directory.mkdir(parents=True, exist_ok=True)
    return directory
