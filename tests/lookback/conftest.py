"""The history that these tests look back on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lookback.builders import History, records
from titan.lookback.past import Past


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    """All of it, without snapshots."""
    made = History(tmp_path / "manager")
    made.append(records())
    yield made
    made.close()


@pytest.fixture
def past(history: History) -> Iterator[Past]:
    """What answers from it."""
    made = Past(history.directory)
    yield made
    made.close()
