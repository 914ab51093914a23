"""What a server logs, and how: options shared by all of them."""

from __future__ import annotations

from typing import Any

import click

from titan import logs


def log_options(function: Any) -> Any:
    """Adds --log-level and --log-format."""
    log_format = click.option(
        "--log-format",
        type=click.Choice(logs.FORMATS),
        default="text",
        show_default=True,
        help="As what: lines of text, or a JSON object a line.",
    )
    log_level = click.option(
        "--log-level",
        type=click.Choice(logs.LEVELS),
        default="info",
        show_default=True,
        help="What is logged, on stderr.",
    )
    return log_level(log_format(function))
