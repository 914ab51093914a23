"""A picture of a simulation. matplotlib is loaded only for it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from titan.errors import TitanError
from titan.simulator.series import Series

SUFFIXES: Final = (".png", ".svg", ".pdf")
# The largest unit of which there are two or more.
_UNITS: Final = (("days", 86_400), ("hours", 3_600), ("minutes", 60))


def check_can_plot(option: str = "--plot") -> None:
    """Raises TitanError where matplotlib is not installed; `option` is what asked for it."""
    try:
        import matplotlib as mpl  # noqa: F401, PLC0415 - large, optional, and only here
    except ImportError as error:
        raise TitanError(
            f"{option} draws with matplotlib, which is not installed here: "
            "install titan-scheduler[plot]"
        ) from error


def plot(series: Series, cpus: float, title: str, path: Path) -> None:
    """Draws utilisation and queue over time into a file of the kind that its name says.

    Raises OSError.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - see above

    seconds = series.interval_us * len(series.busy_cpus) / 1e6
    unit, unit_seconds = next((each for each in _UNITS if seconds >= 2 * each[1]), ("seconds", 1))
    step = series.interval_us / 1e6 / unit_seconds
    edges = [step * place for place in range(len(series.busy_cpus) + 1)]
    # Without pyplot there is no display to look for and nothing global to close.
    figure = Figure(figsize=(10, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.stairs([100 * busy / cpus for busy in series.busy_cpus], edges, fill=True)
    above.set_ylim(0, 100)
    above.set_ylabel("utilisation (% of cpus)")
    above.set_title(title)
    below.stairs(series.waiting_jobs, edges, fill=True, color="tab:orange")
    below.set_ylim(bottom=0)
    below.set_ylabel("queue depth (jobs waiting)")
    below.set_xlabel(f"time since the first submit ({unit})")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.margins(x=0)
    figure.savefig(path, format=path.suffix.lower().removeprefix("."), dpi=120)
