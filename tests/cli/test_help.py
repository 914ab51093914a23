"""What `titan` says about itself."""

import re
import subprocess
import sys

import click
import pytest

from tests.cli.conftest import Titan
from titan.cli.group import COMMANDS, cli

BELOW = [
    ["wal", "dump"],
    ["history", "run"],
    *(["history", "import", *name] for name in ([], ["mini-slurm"], ["swf"])),
    ["manager", "step-down"],
    ["policy", "show"],
    ["policy", "set"],
    *(["certs", name] for name in ("init", "issue", "list", "revoke")),
    *(["certs", "issue", name] for name in ("manager", "worker", "user")),
    *(["token", name] for name in ("issue", "list", "revoke")),
]
ALL = [[name] for name in COMMANDS] + BELOW


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_has_help_with_an_example(titan: Titan, words: list[str]) -> None:
    result = titan(*words, "--help")
    assert (result.code, result.err) == (0, "")
    assert re.search(r"Examples?:\n", result.out)
    assert f"  titan {' '.join(words)}" in result.out or 'eval "$(titan' in result.out


def test_the_first_help_lists_every_command_by_section(titan: Titan) -> None:
    out = titan("--help").out
    assert all(f"  {name} " in out for name in COMMANDS)
    assert all(f"\n{title}:\n" in out for title in ("Jobs", "Cluster", "Servers"))


def test_the_table_agrees_with_the_commands() -> None:
    with click.Context(cli) as context:
        for name in cli.list_commands(context):
            command = cli.get_command(context, name)
            assert command is not None
            assert command.name == name


def test_every_option_has_the_variable_that_its_name_promises() -> None:
    with click.Context(cli) as context:
        for name in cli.list_commands(context):
            command = cli.get_command(context, name)
            assert command is not None
            for option in command.params:
                if isinstance(option, click.Option):
                    words = option.opts[-1].removeprefix("--").replace("-", "_")
                    assert option.name == words, (name, option.opts)


def test_without_a_command_the_help_is_shown(titan: Titan) -> None:
    result = titan()
    assert "Usage: titan" in result.out + result.err


def test_the_version_is_printed(titan: Titan, monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.fullmatch(r"titan \d+\.\d+\.\d+\n", titan("--version").out)
    # A variable of that name means something else.
    monkeypatch.setenv("TITAN_VERSION", "1")
    assert "Usage" in titan("--help").out


@pytest.mark.parametrize(
    ("word", "hint"), [("quue", "`titan queue`"), ("xyz", "`titan --help`"), ("logz", "titan logs")]
)
def test_a_misspelt_command_is_a_usage_error_with_a_hint(
    titan: Titan, word: str, hint: str
) -> None:
    result = titan(word)
    assert result.code == 2
    assert hint in result.err


def test_help_loads_click_and_nothing_that_takes_time() -> None:
    code = (
        "import sys; from titan.cli.main import main; main(['--help']); "
        "slow = {'grpc', 'google', 'rich', 'asyncio', 'psutil', 'dataclasses', 'json', 'decimal'};"
        "print(sorted(slow & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"


def test_asking_loads_neither_rich_nor_the_servers() -> None:
    code = (
        "import sys; from titan.cli.main import main; "
        "main(['--manager', '127.0.0.1:1', 'queue']); "
        "slow = {'rich', 'psutil', 'titan.manager', 'titan.worker', 'wal', 'sortedcontainers'}; "
        "print(sorted(slow & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(titan: Titan, shell: str) -> None:
    result = titan("completion", shell)
    assert result.code == 0
    assert f"_TITAN_COMPLETE={shell}_complete" in result.out


def test_the_shell_is_told_the_commands_and_their_options() -> None:
    def complete(line: str, word: int) -> str:
        environment = {
            "_TITAN_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(word),
        }
        command = [sys.executable, "-m", "titan.cli"]
        out = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return out.stdout

    assert "plain,queue" in complete("titan qu", 1)
    assert "plain,--cpus" in complete("titan submit --cp", 2)
    assert "plain,dump" in complete("titan wal ", 2)
    assert "plain,fcfs" in complete("titan policy set --order f", 4)
