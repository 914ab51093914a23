"""Pictures of how numbers grow, a file for each curve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.bench.result import Curve, Result


def draw(results: Sequence[Result], beside: Path) -> Iterator[str]:
    """Draws all curves into files beside that one, named after it; says where. Raises OSError."""
    curves = [each.curve for each in results if each.curve is not None]
    if not curves:
        return
    try:
        import matplotlib as mpl  # noqa: F401, PLC0415 - large, and only for this
    except ImportError:
        yield "no curves are drawn: matplotlib is not installed"
        return
    for curve in curves:
        path = beside.with_name(f"{beside.stem}-{curve.name}.png")
        _draw(curve, path)
        yield f"drawn: {path}"


def _draw(curve: Curve, path: Path) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415 - see above
    from matplotlib.ticker import StrMethodFormatter  # noqa: PLC0415

    # Without pyplot there is no display to look for and nothing global to close.
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name, points in curve.series.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    if curve.line:
        axes.plot(
            *zip(*curve.line, strict=True), linestyle="--", color="tab:gray",
            label=curve.line_label,
        )  # fmt: skip
    if curve.bound is not None:
        axes.axhline(curve.bound, linestyle=":", color="tab:red", label=curve.bound_label)
    places = sorted({x for points in curve.series.values() for x, _ in points})
    if curve.logarithmic:
        # Linear below the first that is not 0.
        first = next(x for x in places if x)
        axes.set_xscale("symlog", linthresh=first)
        axes.set_xlim(-first / 10, 1.2 * places[-1])
        axes.set_xticks(places)
        axes.minorticks_off()
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_ylim(bottom=0)
    axes.set_title(curve.title)
    axes.set_xlabel(curve.x_label)
    axes.set_ylabel(curve.y_label)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
