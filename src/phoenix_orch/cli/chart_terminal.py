"""The picture of a verdict in a terminal: intervals above, evidence below. Pure: gives lines of spans."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from phoenix_orch.cli.braille import Canvas, Place
from phoenix_orch.health_validator import explain
from phoenix_orch.health_validator.picture import Known, Picture, Point

Span = tuple[str, str]
"""Text and its style, a word that Rich knows."""

STABLE, CANARY, LIMIT = 0, 1, 2
STYLES = {STABLE: "blue", CANARY: "red", LIMIT: "yellow"}
MARGIN = 9
"""Columns for the scale."""
NARROWEST, WIDEST = 40, 160
UPPER, LOWER = 11, 5
"""Rows of the two panels."""
WEAKEST = 0.1
"""Evidence below this is drawn at the bottom."""


def draw(picture: Picture, width: int) -> list[list[Span]]:
    """Lines of at most `width` columns; none without points."""
    points = picture.points
    if len(points) < 2:
        return []
    columns = min(max(width, NARROWEST), WIDEST) - MARGIN - 1
    lines = [[(title(picture), "bold")], _legend(), *_shares(picture, columns)]
    if picture.threshold is not None and any(point.e is not None for point in points):
        lines += [[("evidence against the canary; from the line on it is taken back", "bold")]]
        lines += _evidence(picture, columns, picture.threshold)
    return [*lines, _axis(points, columns), _weights(points, columns)]


def plain(lines: Iterable[Sequence[Span]]) -> str:
    return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)


def title(picture: Picture) -> str:
    """What the upper panel shows."""
    what = {
        "errorRate": "failed requests",
        "abandonmentRate": "requests that clients gave up on",
        "latencyP95": "slower than the p95 limit",
    }
    name = what.get(picture.metric, "slower than the p99 limit")
    if picture.edge is not None:
        name = f"slower than {explain.seconds(picture.edge)}"
    return f"{name}, {explain.percent(picture.confidence)} intervals that may be watched"


def ceiling(picture: Picture) -> float:
    """The highest share worth showing: early intervals reach up to 1 and say nothing.

    The last intervals are shown whole, unless few requests make them so wide that nothing else is seen.
    """
    points = picture.points
    known = [found for point in points for found in (point.canary, point.stable) if found is not None]
    last = [found for found in (points[-1].canary, points[-1].stable) if found is not None]
    allowed = 3 * max((point.limit for point in points if point.limit is not None), default=0.0)
    seen = 1.3 * max((found.observed for found in last or known), default=0.0)
    width = 1.15 * max((found.upper for found in last), default=0.0)
    return min(1.0, max(allowed, seen, min(width, 6 * max(allowed, seen)))) or 0.01


def strongest(picture: Picture, threshold: float) -> float:
    """Top of the scale of evidence."""
    return min(1e6, max(10 * threshold, *(point.e or 0 for point in picture.points)))


def _legend() -> list[Span]:
    """As the lines are drawn: not every terminal has colours."""
    return [
        ("  ── canary", STYLES[CANARY]),
        ("  ┈┈ stable", STYLES[STABLE]),
        ("  ┄┄ limit", STYLES[LIMIT]),
    ]


def _shares(picture: Picture, columns: int) -> list[list[Span]]:
    canvas, points = Canvas(columns, UPPER), picture.points
    top, across = ceiling(picture), _across(points)
    for layer, pick, every, gap in ((STABLE, of_stable, 11, 4), (CANARY, of_canary, 7, 0)):
        for run in runs(points, pick):
            sides = [[(across(point), side / top) for point, side in _side(run, pick, of)] for of in range(3)]
            canvas.band(sides[0], sides[2], layer, every=every)
            lower, middle, upper = map(_clipped, sides)
            canvas.line(lower, layer, gap=gap)
            canvas.line(upper, layer, gap=gap)
            canvas.line(middle, layer, gap=gap)
    for first, last, limit in limits(points):
        if limit <= top:
            canvas.line([(across(first), limit / top), (across(last), limit / top)], LIMIT, gap=2)
    marks = {0: explain.percent(top)}
    for _, _, limit in limits(points):
        marks.setdefault(round((1 - min(1.0, limit / top)) * (UPPER - 1)), explain.percent(limit))
    marks.setdefault(UPPER - 1, "0 %")
    return _framed(canvas, marks)


def _evidence(picture: Picture, columns: int, threshold: float) -> list[list[Span]]:
    canvas, points = Canvas(columns, LOWER), picture.points
    top, across = strongest(picture, threshold), _across(points)

    def height(e: float) -> float:
        return math.log(max(e, WEAKEST) / WEAKEST) / math.log(top / WEAKEST)

    canvas.line([(across(point), height(point.e)) for point in points if point.e is not None], CANARY)
    canvas.line([(0.0, height(threshold)), (1.0, height(threshold))], LIMIT, gap=2)
    marks = {LOWER - 1: f"{WEAKEST:g}:1"}
    marks[round((1 - height(threshold)) * (LOWER - 1))] = f"{threshold:g}:1"
    marks.setdefault(0, f"{top:.0e}:1".replace("e+0", "e") if top > 99_999 else f"{top:.0f}:1")
    return _framed(canvas, marks)


def _framed(canvas: Canvas, marks: dict[int, str]) -> list[list[Span]]:
    lines: list[list[Span]] = []
    for number, row in enumerate(canvas.text()):
        line: list[Span] = [(f"{marks.get(number, ''):>{MARGIN - 1}} ", "dim"), ("│", "dim")]
        line += [(character, STYLES[layer] if layer is not None else "") for character, layer in row]
        lines.append(line)
    return lines


def _axis(points: Sequence[Point], columns: int) -> list[Span]:
    """Minutes since the beginning, at the left, in the middle and at the right."""
    whole = points[-1].seconds / 60
    left, middle, right = "0", f"{whole / 2:.3g}", f"{whole:.3g} min"
    half = columns // 2
    text = f"{left:<{half - len(middle) // 2}}{middle}"
    return [(f"{' ' * MARGIN}└{text}{right:>{max(1, columns - len(text))}}", "dim")]


def _weights(points: Sequence[Point], columns: int) -> list[Span]:
    """The weight below the place where each step begins."""
    across, row = _across(points), [" "] * columns
    for before, point in [(None, points[0]), *pairwise(points)]:
        if before is not None and before.step == point.step:
            continue
        label, start = f"{point.weight}%", round(across(point) * (columns - 1))
        free = start + len(label) <= columns and all(c == " " for c in row[max(0, start - 1) : start + 4])
        if free:
            row[start : start + len(label)] = label
    return [(f"{'weight':>{MARGIN - 1}}  {''.join(row).rstrip()}", "dim")]


def _across(points: Sequence[Point]) -> Callable[[Point], float]:
    first, last = points[0].seconds, points[-1].seconds
    return lambda point: (point.seconds - first) / (last - first) if last > first else 0.0


def of_canary(point: Point) -> Known | None:
    return point.canary


def of_stable(point: Point) -> Known | None:
    return point.stable


def _side(
    run: Sequence[Point], pick: Callable[[Point], Known | None], of: int
) -> Iterable[tuple[Point, float]]:
    for point in run:
        known = pick(point)
        if known is not None:
            yield point, (known.lower, known.observed, known.upper)[of]


def runs(points: Sequence[Point], pick: Callable[[Point], Known | None]) -> list[list[Point]]:
    """Stretches of one step in which something is known: counting begins anew with each step."""
    runs: list[list[Point]] = []
    step: int | None = None
    for point in points:
        if pick(point) is None:
            step = None
            continue
        if point.step != step:
            runs.append([])
        runs[-1].append(point)
        step = point.step
    return runs


def limits(points: Sequence[Point]) -> list[tuple[Point, Point, float]]:
    """(first, last, limit) of each step that has one."""
    found: list[tuple[Point, Point, float]] = []
    for point in points:
        if point.limit is None:
            continue
        if found and found[-1][0].step == point.step:
            found[-1] = (found[-1][0], point, point.limit)
        else:
            found.append((point, point, point.limit))
    return found


def _clipped(places: Sequence[Place]) -> list[Place]:
    """Without what lies above the panel, but for the last place before it comes in."""
    kept = [place for place, after in pairwise(places) if min(place[1], after[1]) < 1.0]
    return [(across, min(1.0, up)) for across, up in [*kept, *places[-1:]]]
