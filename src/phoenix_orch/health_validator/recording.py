"""Recorded observations as files: what was seen of one release, and under which policy. Pure.

JSON lines is the form that Phoenix writes itself: a first line about the release (`Header`), then one
observation a line with the names of the API. The header may be missing. `csv_recording` and
`sources.prometheus_range` make the same `Recording` from what others have recorded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import ValidationError

from phoenix_orch.health_validator.observation import Observation
from phoenix_orch.health_validator.resting import is_rest
from phoenix_orch.kernel.config import ConfigError, Problem
from phoenix_orch.rollout.spec import Model, RolloutSpec

ENOUGH = 100
"""Errors after which a file is not read any further."""
REMEDY = "`phoenix rollout observations NAME --output jsonl` writes such a file"


class Header(Model):
    """The first line of a recording: which release it is, and what it was judged by."""

    format: Literal["phoenix-observations/1"] = "phoenix-observations/1"
    rollout: str = ""
    release: int = 0
    revision: str = ""
    version: str = ""
    spec: RolloutSpec | None = None
    """The policy that the release ran under."""
    outcome: str = ""
    """How the release ended: promoted, rolledBack, cancelled, superseded; empty while it is on its way."""
    reason: str = ""
    ended: datetime | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """What was observed of one release, oldest first."""

    source: str
    """Where it comes from, as a person named it."""
    header: Header
    observations: tuple[Observation, ...]
    past: tuple[Observation, ...] = ()
    """What stable did before the release, by which its dispersion is known (see `resting`)."""
    placed: bool = True
    """The observations say at which step and weight they were made; otherwise that has to be found out."""


def lines(record: Recording) -> Iterable[str]:
    """The recording as JSON lines, without the line ends: header, stable's past, the release."""
    yield record.header.model_dump_json(by_alias=True)
    for observation in (*record.past, *record.observations):
        yield observation.model_dump_json(by_alias=True)


def read_jsonl(source: str, lines: Iterable[str]) -> tuple[Recording, ...]:
    """The releases in the lines of a JSON lines file, in order. Raises ConfigError with line and column.

    Lines are not quoted: what is no recording may be anything, a file with passwords in it, too.
    """
    header = Header()
    problems: list[Problem] = []
    observations: list[Observation] = []
    for number, line in enumerate(lines, start=1):
        if len(problems) >= ENOUGH:
            break
        if not line.strip():
            continue
        try:
            found = json.loads(line)
            if isinstance(found, dict) and "format" in found and not observations:
                header = Header.model_validate(found)
            else:
                observations.append(Observation.model_validate(found, strict=False))
        except json.JSONDecodeError as error:
            problems.append(Problem(number, error.colno, "", f"not JSON: {error.msg}"))
        except RecursionError:
            problems.append(Problem(number, 1, "", "nested too deeply to be an observation"))
        except ValidationError as error:
            problems += [_problem(number, line, dict(fault)) for fault in error.errors()]
    if not problems and not any(not is_rest(observation) for observation in observations):
        problems.append(Problem(0, 0, "", "there is no observation of a release in it"))
    if problems:
        raise ConfigError(source, problems, remedy=REMEDY)
    releases = split(observations)
    if len(releases) > 1:
        header = _of_several(header)
    return tuple(Recording(source, header, tuple(part), past=tuple(past)) for past, part in releases)


def _of_several(header: Header) -> Header:
    """The header for one of several releases: the policy stays, the rest is not known of each."""
    return Header(rollout=header.rollout, spec=header.spec)


def split(observations: Sequence[Observation]) -> list[tuple[list[Observation], list[Observation]]]:
    """(stable's past, the release) for each release: another revision, or the same one from an earlier
    step on, or after a rest."""
    parts: list[tuple[list[Observation], list[Observation]]] = []
    past: list[Observation] = []
    before: Observation | None = None
    for observation in observations:
        if is_rest(observation):
            past.append(observation)
        else:
            again = before is not None and not is_rest(before) and before.revision == observation.revision
            if before is None or not again or observation.step < before.step:
                parts.append((past, []))
                past = []
            parts[-1][1].append(observation)
        before = observation
    return parts


def weights(recording: Recording) -> tuple[int, ...]:
    """The weight of each step of the record's own walk, without the bake."""
    if recording.header.spec is not None:
        return tuple(step.weight for step in recording.header.spec.steps())
    found: dict[int, int] = {}
    for observation in recording.observations:
        seen = found.get(observation.step, 0)
        found[observation.step] = max(seen, observation.weight_applied)
    walk: list[int] = []
    for index in range(max(found, default=0) + 1):
        weight = found.get(index, 0)
        if walk and weight <= walk[-1]:
            break  # beyond the last rise is the bake
        walk.append(max(1, weight))
    return tuple(walk)


def _problem(number: int, line: str, fault: dict[str, Any]) -> Problem:
    loc = [str(part) for part in fault["loc"]]
    key = next((part for part in reversed(loc) if f'"{part}"' in line), "")
    column = line.find(f'"{key}"') + 1 if key else 1
    told = loc and fault["type"] != "extra_forbidden" and not isinstance(fault["input"], dict | list)
    return Problem(
        number,
        column,
        ".".join(loc),
        str(fault["msg"]).removeprefix("Value error, "),
        found=repr(fault["input"])[:60] if told else "",
    )
