"""A CSV of counts per interval as a recording. Pure.

    time,weight,canary_requests,canary_errors,canary_le_0.1,stable_requests,stable_errors,stable_le_0.1
    2026-03-01T12:00:10Z,5,25,0,24,475,1,460

`time` is the end of the interval, ISO 8601 or seconds since 1970. Counts are those of the interval, not
totals. `canary_le_0.1` are the requests of the interval that took at most 0.1 s, as Prometheus counts
them: those of a lower edge are among them. Requests are those that were answered; what clients gave up on
before, status 499 mostly, is `canary_abandoned` and not among them.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from phoenix_orch.health_validator import histogram
from phoenix_orch.health_validator.observation import Arm, Observation
from phoenix_orch.health_validator.recording import ENOUGH, Header, Recording, split
from phoenix_orch.kernel.config import ConfigError, Problem

REQUIRED = ("time", "canary_requests", "canary_errors")
OPTIONAL = (
    "seconds",
    "step",
    "weight",
    "revision",
    "stable_requests",
    "stable_errors",
    "canary_abandoned",
    "stable_abandoned",
    "canary_cpu",
    "canary_memory",
)
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,40}")
_LATENCY = ("canary_le_SECONDS", "stable_le_SECONDS")
REMEDY = f"columns: {', '.join(REQUIRED)}; optional: {', '.join((*OPTIONAL, *_LATENCY))}"
INTERVAL = timedelta(seconds=10)
"""Length of a single row, where there is no other to measure it by."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the file by column; knows where its cells stand."""

    number: int
    cells: Mapping[str, str]
    order: Sequence[str]

    def problem(self, column: str, message: str) -> Problem:
        before = self.order[: self.order.index(column)]
        place = sum(len(self.cells[name]) + 1 for name in before) + 1
        return Problem(self.number, place, column, message, found=self.cells[column][:60])


class _Fault(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def read_csv(source: str, lines: Iterable[str]) -> tuple[Recording, ...]:
    """The releases in the lines of a CSV file. Raises ConfigError with line and column for what is wrong.

    Lines are not quoted: what is no recording may be anything, a file with passwords in it, too.
    """
    reader = csv.reader(iter(lines))
    try:
        order = [name.strip() for name in _next(reader) or ()]
    except csv.Error as error:
        raise ConfigError(
            source, [Problem(reader.line_num, 1, "", f"no CSV: {error}")], remedy=REMEDY
        ) from None
    if not order:
        raise ConfigError(source, [Problem(0, 0, "", "the file is empty")], remedy=REMEDY)
    problems = list(_header_faults(order, reader.line_num))
    if problems:
        raise ConfigError(source, problems, remedy=REMEDY)
    rows, problems = _rows(reader, order)
    observations: list[Observation] = []
    for row in rows:
        try:
            observations.append(_observation(row, observations))
        except _Fault as fault:
            problems.append(fault.problem)
    if not problems and not observations:
        problems.append(Problem(0, 0, "", "there is no row in it"))
    if problems:
        raise ConfigError(source, problems, remedy=REMEDY)
    measured = observations if "seconds" in order else _first_measured(observations)
    placed = "weight" in order
    if placed and "step" not in order:
        measured = list(_steps(measured))
    return tuple(Recording(source, Header(), tuple(part), placed=placed) for _, part in split(measured))


def _next(reader: Iterator[list[str]]) -> list[str] | None:
    """The next row with something in it. Raises csv.Error."""
    return next((cells for cells in reader if any(cells)), None)


def _header_faults(order: Sequence[str], number: int) -> Iterator[Problem]:
    for name in REQUIRED:
        if name not in order:
            yield Problem(number, 1, name, "this column is missing")
    for place, name in enumerate(order):
        column = sum(len(other) + 1 for other in order[:place]) + 1
        shown = name if _COLUMN.fullmatch(name) else ""
        if order.index(name) != place:
            yield Problem(number, column, shown, "this column stands here a second time")
        elif name not in REQUIRED and name not in OPTIONAL and _edge(name) is None:
            yield Problem(number, column, shown, "a column of this name means nothing here")
    if "step" in order and "weight" not in order:
        yield Problem(number, 1, "weight", "a file that tells the step has to tell the weight")


def _rows(reader: Any, order: Sequence[str]) -> tuple[list[_Row], list[Problem]]:
    rows: list[_Row] = []
    problems: list[Problem] = []
    try:
        while len(problems) < ENOUGH and (cells := _next(reader)) is not None:
            if len(cells) != len(order):
                message = f"{len(cells)} cells in a row, {len(order)} columns in the first line"
                problems.append(Problem(reader.line_num, 1, "", message))
                continue
            row = zip(order, (cell.strip() for cell in cells), strict=True)
            rows.append(_Row(reader.line_num, dict(row), order))
    except csv.Error as error:
        problems.append(Problem(reader.line_num, 1, "", f"no CSV: {error}"))
    return rows, problems


def _observation(row: _Row, before: Sequence[Observation]) -> Observation:
    end = _time(row)
    last = before[-1].t1 if before else None
    if last is not None and end <= last:
        raise _Fault(row.problem("time", f"is not after {last.isoformat()}, the time of the row before"))
    length = _number(row, "seconds")
    start = end - timedelta(seconds=length) if length is not None else (last or end - INTERVAL)
    revision = row.cells.get("revision", "") or "canary"
    return Observation(
        t0=start,
        t1=end,
        revision=revision,
        step=_count(row, "step") or 0,
        weight_applied=min(100, _count(row, "weight") or 0),
        canary=_arm(row, "canary", revision),
        stable=_arm(row, "stable", "stable") if row.cells.get("stable_requests") else None,
    )


def _arm(row: _Row, who: str, revision: str) -> Arm:
    requests, errors = _count(row, f"{who}_requests") or 0, _count(row, f"{who}_errors") or 0
    if errors > requests:
        raise _Fault(row.problem(f"{who}_errors", f"more than the {requests} requests"))
    edges = {name: edge for name in row.order if (edge := _edge(name)) and name.startswith(who)}
    counts = {edge: _count(row, name) or 0 for name, edge in edges.items()}
    for name, edge in edges.items():
        if counts[edge] > requests:
            raise _Fault(row.problem(name, f"more than the {requests} requests"))
    if counts:
        counts[math.inf] = requests
    return Arm(
        revision=revision,
        requests=requests,
        errors=errors,
        abandoned=_count(row, f"{who}_abandoned") or 0,
        buckets=histogram.from_cumulative(counts),
        cpu=_number(row, f"{who}_cpu"),
        memory=_count(row, f"{who}_memory"),
    )


def _edge(name: str) -> float | None:
    """0.1 for `canary_le_0.1`; infinity needs no column."""
    for who in ("canary_le_", "stable_le_"):
        if name.startswith(who):
            try:
                edge = float(name.removeprefix(who))
            except ValueError:
                return None
            return edge if 0 < edge < math.inf else None
    return None


def _time(row: _Row) -> datetime:
    text = row.cells["time"]
    try:
        return datetime.fromtimestamp(float(text), UTC)
    except (ValueError, OverflowError, OSError):
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        message = "neither a moment as 2026-03-01T12:00:10Z nor seconds since 1970"
        raise _Fault(row.problem("time", message)) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _number(row: _Row, column: str) -> float | None:
    text = row.cells.get(column, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise _Fault(row.problem(column, "not a number of 0 or more"))
    return value


def _count(row: _Row, column: str) -> int | None:
    value = _number(row, column)
    if value is not None and value != int(value):
        raise _Fault(row.problem(column, "not a whole number: counts of the interval are wanted, not rates"))
    return None if value is None else int(value)


def _first_measured(observations: list[Observation]) -> list[Observation]:
    """The first row has none before it: it is taken to be as long as the second."""
    if len(observations) > 1:
        first, second = observations[0], observations[1]
        observations[0] = first.model_copy(update={"t0": first.t1 - (second.t1 - second.t0)})
    return observations


def _steps(observations: Sequence[Observation]) -> Iterator[Observation]:
    """A step begins where the weight rises above all before it."""
    step, highest = -1, 0
    for observation in observations:
        if observation.weight_applied > highest:
            step, highest = step + 1, observation.weight_applied
        yield observation.model_copy(update={"step": max(0, step)})
