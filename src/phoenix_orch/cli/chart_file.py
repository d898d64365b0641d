"""The picture of a verdict as PNG or SVG, drawn by matplotlib, which is an extra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phoenix_orch.cli.chart_terminal import (
    WEAKEST,
    ceiling,
    limits,
    of_canary,
    of_stable,
    runs,
    strongest,
    title,
)
from phoenix_orch.health_validator.explanation import Explanation
from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.health_validator.picture import Picture, Point
from phoenix_orch.kernel.errors import Invalid

KINDS = (".png", ".svg")
_SIZE = (9.0, 5.4)
_DASHED = (0, (4, 3))
_CANARY, _STABLE, _LIMIT, _QUIET = "#c2410c", "#1d4ed8", "#111827", "#9ca3af"
_STYLE = {
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "phoenix",
}


def write(path: Path, explanation: Explanation, *, name: str = "") -> None:
    """Draw it into a file. `name`: of a release that has none of its own.

    Raises Invalid for a name that is no picture, a place that cannot be written, without points, and where
    matplotlib is not installed.
    """
    check(path)
    picture = explanation.picture
    if picture is None or len(picture.points) < 2:
        raise Invalid("there is nothing to draw yet", remedy="a picture needs two observations of a release")
    try:
        with _matplotlib().rc_context(_STYLE):
            figure = _figure(explanation, picture, name)
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    except OSError as error:
        raise Invalid(
            f"{path} cannot be written: {(error.strerror or str(error)).lower()}", remedy="name another place"
        ) from None


def check(path: Path) -> None:
    """Refuse early what `write` would refuse after all the work."""
    if path.suffix not in KINDS:
        raise Invalid(f"{path} is neither .png nor .svg", remedy="end the name in one of them")
    _matplotlib()


def _matplotlib() -> Any:
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        raise Invalid(
            "pictures need matplotlib, which is not installed",
            remedy="pip install 'phoenix-orchestrator[charts]'; without --chart it is drawn in the terminal",
        ) from None
    return mpl


def _figure(explanation: Explanation, picture: Picture, name: str) -> Any:
    from matplotlib.figure import Figure  # noqa: PLC0415

    evidence = picture.threshold is not None and any(point.e is not None for point in picture.points)
    figure = Figure(figsize=_SIZE, layout="constrained")
    ratios = [2.2, 1.0] if evidence else [1.0]
    panels = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    figure.suptitle(_headline(explanation, name), fontsize=11, x=0.01, ha="left", fontweight="bold")
    _shares(panels[0], picture)
    if evidence and picture.threshold is not None:
        _evidence(panels[1], picture, picture.threshold)
    panels[-1].set_xlabel("minutes since the release began")
    for panel in panels:
        _steps(panel, picture.points)
        if explanation.kind is VerdictKind.ROLLBACK and explanation.after is not None:
            panel.axvline(explanation.after.total_seconds() / 60, color=_CANARY, linewidth=1.0, alpha=0.7)
    _weights(panels[0], picture.points)
    return figure


def _headline(explanation: Explanation, name: str) -> str:
    version = f" {explanation.version}" if explanation.version else ""
    return f"{explanation.rollout or name}{version}: {explanation.sentence.split('. ')[0].rstrip('.')}"


def _shares(panel: Any, picture: Picture) -> None:
    points = picture.points
    for color, label, pick in ((_STABLE, "stable", of_stable), (_CANARY, "canary", of_canary)):
        for number, run in enumerate(runs(points, pick)):
            minutes = [point.seconds / 60 for point in run]
            known = [found for point in run if (found := pick(point)) is not None]
            shown = label if number == 0 else None
            lower, upper = [k.lower * 100 for k in known], [k.upper * 100 for k in known]
            panel.fill_between(minutes, lower, upper, color=color, alpha=0.18, linewidth=0)
            panel.plot(minutes, [k.observed * 100 for k in known], color=color, linewidth=1.6, label=shown)
    for number, (first, last, limit) in enumerate(limits(points)):
        ends = [first.seconds / 60, last.seconds / 60]
        shown = "limit" if number == 0 else None
        panel.plot(ends, [limit * 100] * 2, color=_LIMIT, linewidth=1.2, linestyle=_DASHED, label=shown)
    panel.set_ylim(0, ceiling(picture) * 100)
    panel.set_ylabel("% of requests")
    panel.set_title(title(picture), fontsize=9.5, loc="left", color="#374151", pad=18)
    panel.legend(loc="upper right", frameon=False, ncols=3, fontsize=9)


def _evidence(panel: Any, picture: Picture, threshold: float) -> None:
    known = [(point.seconds / 60, max(point.e, WEAKEST)) for point in picture.points if point.e is not None]
    panel.plot(*zip(*known, strict=True), color=_CANARY, linewidth=1.6)
    panel.axhline(threshold, color=_LIMIT, linewidth=1.2, linestyle=_DASHED)
    panel.set_yscale("log")
    panel.set_ylim(WEAKEST, strongest(picture, threshold))
    panel.set_ylabel("evidence, x : 1")
    panel.annotate(
        f"{threshold:,.0f} : 1 takes it back",
        (0.005, threshold),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        fontsize=8.5,
    )


def _steps(panel: Any, points: Sequence[Point]) -> None:
    """A line where each step begins."""
    for point in _beginnings(points)[1:]:
        panel.axvline(point.seconds / 60, color=_QUIET, linewidth=0.8, linestyle=":")
    panel.set_xlim(0, points[-1].seconds / 60)


def _weights(panel: Any, points: Sequence[Point]) -> None:
    """The weight of each step, above the panel."""
    for point in _beginnings(points):
        panel.annotate(
            f"{point.weight} %",
            (point.seconds / 60, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(2, 4),
            textcoords="offset points",
            fontsize=8.5,
            color="#6b7280",
        )


def _beginnings(points: Sequence[Point]) -> list[Point]:
    return [point for index, point in enumerate(points) if index == 0 or points[index - 1].step != point.step]
