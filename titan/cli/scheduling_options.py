"""The options that say when and where a job may run; a part of `spec_options.py`."""

from __future__ import annotations

from typing import Any, Final

import click

from titan.cli.params import EXIT_CODES, EXPRESSION, TIME_TO_COME

SCHEDULING_OPTIONS: Final[list[Any]] = [
    click.option(
        "--after",
        multiple=True,
        metavar="JOB[:ok|any|failed]",
        help="Start once that job COMPLETED (ok), ended (any) or FAILED. 42.7 is one task of it; "
        "42.%i: each task waits for the one of its own index. May be repeated.",
    ),
    click.option(
        "--begin",
        type=TIME_TO_COME,
        metavar="TIME",
        help="Not before: now+1h, 16:00, 2026-12-01T12:00 [at once].",
    ),
    click.option(
        "--deadline",
        type=TIME_TO_COME,
        metavar="TIME",
        help="Cancel what has not ended by then, and start nothing that could not.",
    ),
    click.option("--hold", is_flag=True, help="Start nothing of it until it is released."),
    click.option(
        "--retries",
        type=int,
        default=0,
        show_default=True,
        metavar="N",
        help="Try a task that FAILED so many times more.",
    ),
    click.option(
        "--retry-on",
        type=EXIT_CODES,
        multiple=True,
        metavar="CODE[,CODE…]",
        help="Only after these exit codes [however it failed]. May be repeated.",
    ),
    click.option(
        "--max-fails",
        type=int,
        metavar="N",
        help="Cancel the rest of an array once more than N of its tasks FAILED [never].",
    ),
    click.option(
        "--constraint",
        type=EXPRESSION,
        multiple=True,
        metavar="EXPR",
        help="Only workers with such labels: zone==a, 'zone in (a,b)', 'zone!=a and disk==ssd'. "
        "May be repeated: all hold.",
    ),
    click.option(
        "--affinity",
        multiple=True,
        metavar="JOB|self",
        help="Only workers where tasks of that job are; self: all its tasks on one. "
        "May be repeated.",
    ),
    click.option(
        "--anti-affinity",
        multiple=True,
        metavar="JOB|self",
        help="Only workers where none are; self: each of its tasks on another. May be repeated.",
    ),
    click.option(
        "--spread", metavar="LABEL", help="Spread its tasks evenly over the values of that label."
    ),
    click.option("--exclusive", is_flag=True, help="Nothing else runs on its worker meanwhile."),
    click.option(
        "--preemptible",
        is_flag=True,
        help="A job of higher priority may stop its tasks, which then wait again.",
    ),
    click.option(
        "--at-most-once",
        is_flag=True,
        help="Never start a task again that may have begun: lost with its worker it has FAILED.",
    ),
]
