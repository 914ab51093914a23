"""What lies in tools/deploy, for tests."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

DEPLOY: Final = Path(__file__).parents[2] / "tools" / "deploy"
ALERTS: Final = DEPLOY / "alerts.yml"
# What is told only by managers that share a log: by the one that leads, and by those that stand by.
OF_SEVERAL: Final = {
    "titan_lease_seconds_left",
    "titan_journal_lag_records",
    "titan_journal_lag_seconds",
}
_NAMES: Final = re.compile(r"\b(?:titan|process)_[a-z0-9_]+")


def dashboard() -> dict[str, Any]:
    """The dashboard."""
    found: dict[str, Any] = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    return found


def panels() -> list[dict[str, Any]]:
    """What it shows, without the titles of its rows."""
    return [each for each in dashboard()["panels"] if each["type"] != "row"]


def expressions() -> list[str]:
    """What it asks Prometheus."""
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def metrics_named() -> set[str]:
    """All that dashboard, its variables and the alerts name."""
    rules = re.sub(r"(?m)^\s*#.*$", "", ALERTS.read_text())
    variables = [each.get("definition", "") for each in dashboard()["templating"]["list"]]
    return {name for text in (*expressions(), *variables, rules) for name in _NAMES.findall(text)}


def metrics_told(text: str) -> set[str]:
    """All that a scrape has, also where there is no sample of it yet."""
    found = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            found |= {name} if kind != "histogram" else {f"{name}_bucket", f"{name}_sum"}
            found |= {f"{name}_count"} if kind == "histogram" else set()
    return found
