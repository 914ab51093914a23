"""What somebody takes over from tools/deploy: promtool is content with it, and each alert comes.

That the metrics that it names exist is seen where a real manager tells them (tests/e2e).
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

from tests.metrics.deployed import ALERTS, DEPLOY, dashboard, expressions, panels
from tests.metrics.prometheus import promtool

CASES = Path(__file__).parent / "alerts.test.yml"


def test_promtool_is_content_with_rules_and_configuration() -> None:
    said = promtool("check", "config", DEPLOY / "prometheus.yml")
    assert "is valid prometheus config file syntax" in said
    assert f"SUCCESS: {len(alerts())} rules found" in said


def test_each_alert_comes_when_it_should_and_not_else() -> None:
    promtool("test", "rules", CASES)
    cases = CASES.read_text()
    for name in alerts():
        assert f'alertname="{name}"' in cases
        assert f"# No {name}" in cases or f"No {name}:" in cases


def alerts() -> dict[str, str]:
    """Each alert's text by its name."""
    _, *parts = ALERTS.read_text().split("      - alert: ")
    found = {part.splitlines()[0]: part for part in parts}
    assert len(found) == len(parts), "no name twice"
    return found


def test_each_alert_waits_and_tells_people_what_it_means() -> None:
    for name, text in alerts().items():
        for needed in ("for", "severity", "summary", "description"):
            assert re.search(rf"(?m)^ +{needed}: \S", text), (name, needed)


def test_prometheus_understands_all_that_the_dashboard_asks(tmp_path: Path) -> None:
    rules = [
        # JSON is YAML. Grafana puts these in.
        {
            "record": f"titan:panel:{number}",
            "expr": expression.replace("$__rate_interval", "5m"),
        }
        for number, expression in enumerate(expressions())
    ]
    path = tmp_path / "panels.yml"
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"SUCCESS: {len(rules)} rules found" in promtool("check", "rules", path)
    assert "$__" not in "".join(rule["expr"] for rule in rules)


def test_the_panels_have_names_and_places_of_their_own() -> None:
    found = panels()
    titles = [each["title"] for each in found]
    assert all(titles)
    assert len(set(titles)) == len(titles)
    ids = [each["id"] for each in dashboard()["panels"]]
    assert len(set(ids)) == len(ids)
    cells = [
        (x, y)
        for each in dashboard()["panels"]
        for place in [each["gridPos"]]
        for x, y in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        )
    ]
    assert len(set(cells)) == len(cells), "no two in one place"
    assert max(x for x, _ in cells) < 24
