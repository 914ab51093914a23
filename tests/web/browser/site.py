"""The pages of one server, what runs behind them, and answers that are made up for them."""

from __future__ import annotations

import json
import random
import time
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page

from tests.cluster import REPOSITORY, Cluster

AXE = REPOSITORY / "titan/web/frontend/node_modules/axe-core/axe.min.js"
GRAVE = ("serious", "critical")


class Site:
    """A server of pages; `url` has a token in it."""

    def __init__(self, url: str, cluster: Cluster, browser: Browser) -> None:
        self.url = url
        self.base = url.partition("/?")[0]
        self.cluster = cluster
        self._browser = browser
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        self._logged_in = context.storage_state()
        context.close()

    def new_context(self, *, logged_in: bool = True, **settings: Any) -> BrowserContext:
        """What a browser window of somebody else would be."""
        state = self._logged_in if logged_in else None
        return self._browser.new_context(storage_state=state, **settings)

    def get(self, page: Page, path: str) -> Any:
        """What the API answers."""
        response = page.request.get(f"{self.base}/api/v1{path}")
        assert response.ok, response.text()
        return response.json()


def grave_faults(page: Page, *rules: str) -> list[str]:
    """What axe finds, by those rules or by all, that keeps people from using the page.

    The page must have been opened without its content policy.
    """
    page.add_script_tag(path=AXE)
    options = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
    found = page.evaluate("options => axe.run(document, options)", options)
    return [
        f"{page.url} {each['id']}: {each['help']}: {node['html'][:200]}"
        for each in found["violations"]
        if each["impact"] in GRAVE
        for node in each["nodes"][:3]
    ]


def made_up_timeline(bars: int, *, workers: int = 40, lanes: int = 8, seconds: float = 3600) -> str:
    """The answer of a busy hour: so many attempts or a few more, side by side in lanes."""
    chance = random.Random(1)  # the same each time
    columns: dict[str, list[Any]] = {
        name: [] for name in ("worker", "job", "index", "attempt", "start", "end")
    }
    states = []
    each = -(-bars // (workers * lanes))
    for lane in range(workers * lanes):
        start = 0.0
        for index in range(each):
            length = seconds / each * chance.uniform(0.2, 1.6)
            columns["worker"].append(lane % workers)
            columns["job"].append(chance.randrange(500))
            columns["index"].append(index)
            columns["attempt"].append(1)
            columns["start"].append(round(start, 3))
            columns["end"].append(round(start + length * 0.95, 3))
            states.append(chance.choices("CFX", [90, 8, 2])[0])
            start += length
    now = time.time()
    return json.dumps(
        {
            "lsn": 1,
            "since": now - seconds,
            "until": now,
            "more": False,
            "workers": [f"node{number}" for number in range(workers)],
            "users": ["ada", "ben", "cid"],
            "jobs": [
                {"job_id": number + 1, "name": f"train-{number}", "user": number % 3}
                for number in range(500)
            ],
            "bars": {**columns, "state": "".join(states)},
        }
    )
