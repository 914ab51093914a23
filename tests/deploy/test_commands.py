"""Each command line of `titan` in tools/deploy is one that it takes, and so is each variable."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click
import pytest

from tests.deploy.files import DEPLOY, Started, all_started, commands_of_shell
from titan.cli.group import cli

STARTED = all_started()


def parse(words: list[str]) -> click.Context:
    """The command with its options, as far as click reads them; it is not run."""
    ctx = cli.make_context(words[0], list(words[1:]))
    command: click.Command = cli
    while isinstance(command, click.Group) and (rest := [*ctx._protected_args, *ctx.args]):
        name, found, rest = command.resolve_command(ctx, rest)
        assert found is not None
        command, ctx = found, found.make_context(name, rest, parent=ctx)
    return ctx


def variables(command: click.Command, prefix: str) -> Iterator[str]:
    """What a command and those below it read from the environment."""
    for option in command.params:
        named = option.envvar or []
        yield from [named] if isinstance(named, str) else named
        yield f"{prefix}_{(option.name or '').upper()}"
    if isinstance(command, click.Group):
        ctx = click.Context(command)
        for name in command.list_commands(ctx):
            below = command.get_command(ctx, name)
            assert below is not None
            yield from variables(below, f"{prefix}_{name.replace('-', '_').upper()}")


def test_there_are_all_that_there_should_be() -> None:
    where = " ".join(each.where for each in STARTED)
    for part in ("titan-manager.service", "compose.yml: manager2", "compose-certs.sh"):
        assert part in where
    for part in ("kubernetes: titan-worker", "README.md", "OPERATIONS.md"):
        assert part in where


def test_commands_are_found_in_scripts() -> None:
    text = (
        "[ -e a ] || titan certs init --cluster 'a b'  # once\n$ titan stats | grep x\nnot titan\n"
    )
    assert list(commands_of_shell(text)) == [
        ["titan", "certs", "init", "--cluster", "a b"],
        ["titan", "stats"],
    ]


@pytest.mark.parametrize(
    "started", STARTED, ids=[f"{n} {each.where}" for n, each in enumerate(STARTED)]
)
def test_titan_takes_it(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TITAN_")]:
        monkeypatch.delenv(name)
    for name, value in started.environment.items():
        monkeypatch.setenv(name, value)
    parse(started.words)


def test_a_wrong_option_would_be_seen() -> None:
    with pytest.raises(click.UsageError):
        parse(["titan", "manager", "--no-such-option"])
    with pytest.raises(click.UsageError):
        parse(["titan", "certs", "issue", "nobody"])


def test_each_variable_is_read_by_some_command() -> None:
    known = set(variables(cli, "TITAN"))
    assert "TITAN_WORKER_ADVERTISE" in known
    for started in STARTED:
        named = {name for name in started.environment if name.startswith("TITAN_")}
        assert not named - known, started.where
    # And the one that the image sets.
    assert "TITAN_TLS_DIR=/etc/titan/tls" in (DEPLOY / "Dockerfile").read_text()
    assert "TITAN_TLS_DIR" in known
