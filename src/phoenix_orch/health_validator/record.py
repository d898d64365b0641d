"""One observation as the line that the store keeps: half the size of its plain JSON. Pure.

    {"v":1,"t":[1767268800000000,10000000],"r":"2222222222","s":0,"w":5,"e":[0.1,0.25],
     "c":{"n":50,"x":1,"b":[48,1,1],"p":1},"k":{"r":"1111111111","n":950,"b":[940,9,1],"p":2}}

`t` is the end in microseconds since 1970 and the length; `e` the finite latency edges of both variants,
where those are the same; `c` and `k` canary and stable, with `n` requests, `x` errors, `l` requests that
clients left, `b` counts by bucket. What has its default value is left out. Lines written before this form
existed are read as well.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

from phoenix_orch.health_validator.histogram import Buckets
from phoenix_orch.health_validator.observation import Arm, Observation, Quality

VERSION = 1

SCALARS = {
    "n": "requests",
    "x": "errors",
    "l": "abandoned",
    "u": "cpu",
    "m": "memory",
    "a": "restarts",
    "p": "processes",
    "i": "business",
    "g": "values",
    "d": "unserved",
}
"""Fields of an arm that are written as they are, by the letter that stands for them."""

ANSWERED, WAITED = ("b", "e"), ("y", "f")
"""Letters of a histogram's counts, and of its edges where those are not the line's: how long answers took,
and how long those waited who gave up."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
_DEFAULTS = Arm(revision="")


def encode(observation: Observation) -> str:
    """The line; nothing is rounded."""
    if any(not _ends(found) for arm in _arms(observation) for found in (arm.buckets, arm.waited)):
        return observation.model_dump_json()  # not made by a source of ours
    edges = _edges(observation.canary.buckets)
    line: dict[str, Any] = {
        "v": VERSION,
        "t": [(observation.t1 - _EPOCH) // _US, (observation.t1 - observation.t0) // _US],
        "r": observation.revision,
        "s": observation.step,
        "w": observation.weight_applied,
    }
    if edges:
        line["e"] = edges
    line["c"] = _packed(observation.canary, edges, besides=observation.revision)
    if observation.stable is not None:
        line["k"] = _packed(observation.stable, edges, besides=observation.revision)
    if observation.notes:
        line["o"] = observation.notes
    return json.dumps(line, separators=(",", ":"), ensure_ascii=False)


def decode(text: str | bytes) -> Observation:
    """The observation of a line. Raises ValueError for one that is none."""
    line = json.loads(text)
    if not isinstance(line, dict) or "v" not in line:
        return Observation.model_validate_json(text)
    if line["v"] != VERSION:
        raise ValueError(f"the line is of version {line['v']}, this Phoenix reads {VERSION}")
    try:
        end, length = line["t"]
        t1 = _EPOCH + end * _US
        edges = tuple(line.get("e", ()))
        return Observation(
            t0=t1 - length * _US,
            t1=t1,
            revision=line["r"],
            step=line["s"],
            weight_applied=line["w"],
            canary=_unpacked(line["c"], edges, line["r"]),
            stable=_unpacked(line["k"], edges, line["r"]) if "k" in line else None,
            notes=tuple(line.get("o", ())),
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"no observation: {error!r}") from None


def _packed(arm: Arm, edges: list[float], *, besides: str) -> dict[str, Any]:
    found: dict[str, Any] = {} if arm.revision == besides else {"r": arm.revision}
    for short, name in SCALARS.items():
        value = getattr(arm, name)
        if value != getattr(_DEFAULTS, name):
            found[short] = value
    for (counts, layout), buckets in ((ANSWERED, arm.buckets), (WAITED, arm.waited)):
        if buckets:
            found[counts] = [count for _, count in buckets]
            if (own := _edges(buckets)) != edges:
                found[layout] = own
    if arm.quality is not Quality.OK:
        found["q"] = arm.quality.value
    return found


def _unpacked(found: dict[str, Any], edges: tuple[float, ...], besides: str) -> Arm:
    def histogram(counts: str, layout: str) -> Buckets:
        own = (*found.get(layout, edges), math.inf)
        return tuple(zip(own, found[counts], strict=True)) if counts in found else ()

    return Arm(
        revision=found.get("r", besides),
        buckets=histogram(*ANSWERED),
        waited=histogram(*WAITED),
        quality=Quality(found.get("q", "ok")),
        **{name: found[short] for short, name in SCALARS.items() if short in found},
    )


def _ends(buckets: Buckets) -> bool:
    """With infinity, as those of our own sources."""
    return not buckets or buckets[-1][0] == math.inf


def _edges(buckets: Buckets) -> list[float]:
    """The finite edges: the last one is always infinity."""
    return [edge for edge, _ in buckets[:-1]]


def _arms(observation: Observation) -> tuple[Arm, ...]:
    return (observation.canary,) if observation.stable is None else (observation.canary, observation.stable)
