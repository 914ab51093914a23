"""What managers tell Prometheus of who leads."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.manager.leaderships import Lease
from tests.metrics.deployed import OF_SEVERAL, metrics_named
from titan.manager.lead_metrics import lead_families
from titan.manager.leadership import ALONE, Leadership
from titan.manager.several.standby_metrics import StandbyMetrics
from titan.manager.several.standby_view import StandbyView
from titan.metrics.calls import Calls
from titan.metrics.family import Family
from titan.state import ClusterState


def values(families: list[Family]) -> dict[str, object]:
    """Of those with one sample and no labels."""
    return {each.name: value for each in families for labels, value in each.samples if not labels}


def told(leadership: Leadership) -> dict[str, object]:
    return values(list(lead_families(leadership)))


def test_who_leads_tells_how_long_its_lease_lasts() -> None:
    assert told(Lease()) == {
        "titan_leader": 1, "titan_term": 3, "titan_lease_seconds_left": 5.0,
    }  # fmt: skip
    assert told(Lease(is_held=False)) == {"titan_leader": 0, "titan_term": 3}
    # One whose log is in files has none.
    assert told(ALONE) == {"titan_leader": 1, "titan_term": 0}


def test_a_standby_tells_how_far_behind_it_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        now = 0.0
        view = StandbyView(ClusterState(), lambda: 0, lambda: now)
        metrics = StandbyMetrics(view, Lease(is_held=False), Calls(), tmp_path)
        now = 2.0
        view.note_end(9)
        read = values(list(metrics.read()))
        assert read["titan_leader"] == 0
        assert (read["titan_journal_lag_records"], read["titan_journal_lag_seconds"]) == (9, 2.0)
        assert "titan_disk_free_bytes" in values(list(metrics.look()))

    asyncio.run(scenario())


def test_what_dashboard_and_alerts_name_of_several_managers_is_told(tmp_path: Path) -> None:
    async def scenario() -> set[str]:
        view = StandbyView(ClusterState(), lambda: 0, lambda: 0.0)
        metrics = StandbyMetrics(view, Lease(is_held=False), Calls(), tmp_path)
        return {each.name for each in metrics.read()}

    named = {name for name in metrics_named() if name in OF_SEVERAL}
    assert not named - {*told(Lease()), *asyncio.run(scenario())}
    assert "titan_lease_seconds_left" in named
