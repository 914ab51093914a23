"""`titan completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from titan.cli.command import FAILED, Command, say


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  eval "$(titan completion bash)"                # in ~/.bashrc
  eval "$(titan completion zsh)"                 # in ~/.zshrc
  titan completion fish > ~/.config/fish/completions/titan.fish
""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print the script with which a shell completes `titan`'s commands and options."""
    from titan.cli.group import cli  # noqa: PLC0415 - it names this module

    kind = get_completion_class(shell)
    if kind is None:
        say(f"this version of click knows no {shell}")
        return FAILED
    print(kind(cli, {}, "titan", "_TITAN_COMPLETE").source())
    return 0
