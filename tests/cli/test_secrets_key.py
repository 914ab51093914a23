"""`titan manager --secrets-key`: for managers that share a journal, and no others."""

from pathlib import Path

import click
import pytest

from titan.cli.main import main
from titan.cli.manager import check_secrets_key


@pytest.mark.parametrize("by", ["option", "variable"])
def test_a_manager_with_a_log_of_its_own_takes_no_key(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    by: str,
) -> None:
    arguments = ["manager", "--data-dir", str(tmp_path / "manager")]
    if by == "option":
        arguments += ["--secrets-key", str(tmp_path / "key")]
    else:
        monkeypatch.setenv("TITAN_SECRETS_KEY", str(tmp_path / "key"))
    assert main(arguments) == 2
    assert "it goes with --journal" in capsys.readouterr().err
    assert not (tmp_path / "manager").exists()


def test_one_with_a_journal_may_have_one() -> None:
    check_secrets_key(Path("key"), has_journal=True)
    check_secrets_key(None, has_journal=False)
    with pytest.raises(click.BadParameter, match="goes with --journal"):
        check_secrets_key(Path("key"), has_journal=False)
