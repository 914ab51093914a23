"""`titan top` where it can't be: without a terminal, a manager, or the library that draws."""

from __future__ import annotations

import sys

import pytest

from tests.cli.conftest import Titan
from tests.client.fake_manager import FakeManager


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were one."""
    monkeypatch.setattr("titan.cli.top.command.all_terminals", lambda: True)


def test_without_a_terminal_it_names_the_commands_that_print(
    manager: FakeManager, titan: Titan
) -> None:
    result = titan("top")
    assert (result.code, result.out) == (1, "")
    assert "`titan queue`" in result.err
    assert not manager.calls


@pytest.mark.usefixtures("terminal")
def test_without_textual_it_says_how_to_install_it(
    manager: FakeManager, titan: Titan, monkeypatch: pytest.MonkeyPatch
) -> None:
    # They may have been imported by other tests.
    drawing = [f"titan.cli.top.{name}" for name in ("app", "dialogs", "listing", "pane")]
    for name in [name for name in sys.modules if name in drawing or name.startswith("textual.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "textual", None)
    result = titan("top")
    assert (result.code, result.out) == (1, "")
    assert result.err == "titan: top needs textual: pip install 'titan-scheduler[top]'\n"


@pytest.mark.usefixtures("terminal")
def test_a_manager_that_is_not_there_ends_it_before_there_is_a_screen(
    manager: FakeManager, titan: Titan
) -> None:
    manager.stop()
    result = titan("top")
    assert (result.code, result.out) == (3, "")
    assert f"no manager answers at {manager.address}" in result.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--interval", "0s"], "0.1s is the least"),
        (["--interval", "1"], "add a unit"),
        (["--limit", "1001"], "1001"),
        (["--me", "--user", "ada"], "two users"),
        (["--json"], "--json"),
    ],
)
def test_a_mistake_is_a_usage_error(titan: Titan, options: list[str], words: str) -> None:
    result = titan("top", *options)
    assert result.code == 2
    assert words in result.err
