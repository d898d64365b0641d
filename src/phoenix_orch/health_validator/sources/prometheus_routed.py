"""What a router counted of one route, by way of Prometheus."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from phoenix_orch.health_validator import answers
from phoenix_orch.health_validator.sources.exposition import START, Key, counted, edge, rest_of, timed
from phoenix_orch.health_validator.sources.prometheus_api import Found, Series
from phoenix_orch.health_validator.sources.prometheus_poller import Answer, Family, Poller
from phoenix_orch.health_validator.sources.prometheus_samples import Counted
from phoenix_orch.health_validator.sources.router_series import RouterSeries, Target, Variant

JOB = Family("job")


@dataclass(frozen=True, slots=True)
class Routed:
    """Series of a router that may be of a route, and when each of its processes started."""

    series: tuple[Series, ...]
    started: Mapping[str, float]
    """By process, in seconds since 1970, as far as it is told."""
    found: tuple[Found, ...]
    """The answers that they are from, theirs first."""


async def read(poller: Poller, router: RouterSeries, target: Target, names: Iterable[str]) -> Routed:
    """The series called `names` of everything that counts for the route. Raises Invalid, or Retryable."""
    series, answer = await _routed(poller, router, target, tuple(names))
    jobs = sorted({one.labels.get("job", "") for one in series})
    if not jobs:
        return Routed((), {}, (answer.found,))
    starts = await poller.read(JOB, (START,), "|".join(map(re.escape, jobs)))
    started = {
        _process(one): one.points[-1][1]
        for one in starts.of(lambda job: job in jobs)
        if one.labels.get("__name__") == START and one.points
    }
    return Routed(tuple(series), started, (answer.found, starts.found))


async def _routed(
    poller: Poller, router: RouterSeries, target: Target, names: tuple[str, ...]
) -> tuple[list[Series], Answer]:
    """By the first label that finds any."""
    pattern = router.pattern(target)
    fits = re.compile(pattern).fullmatch
    for family in router.families:
        answer = await poller.read(family, names, pattern)
        series = [one for one in answer.of(lambda value: fits(value) is not None) if one.points]
        if series:
            break
    return series, answer


def counters(
    routed: Routed, router: RouterSeries, target: Target, revisions: Mapping[Variant, str]
) -> list[Counted]:
    """The counters of the variants in `revisions`. Pure.

    The service of the canary is another revision's in the next release, and stable's becomes the new
    revision's when it is promoted: where a variant means something else, counting begins anew.
    """
    meaning = ",".join(f"{variant}={revision}" for variant, revision in sorted(revisions.items()))
    found = []
    for one in routed.series:
        variant = router.variant(one.labels, target)
        if variant is None or variant not in revisions:
            continue
        key = _key(one.labels, revisions[variant], router)
        process = _process(one)
        points = tuple((at, counted(key, value)) for at, value in one.points)
        found.append(Counted(f"{process} {meaning}", str(key), routed.started.get(process), points))
    return found


def _key(labels: Mapping[str, str], revision: str, router: RouterSeries) -> Key:
    rest = rest_of(labels, leave_out=("le", "__name__"))
    if labels["__name__"] == router.requests:
        return Key(revision, answers.kind(answers.status(labels)), "", rest)
    return Key(revision, timed(labels), edge(labels, router.unit), rest)


def _process(one: Series) -> str:
    return f"{one.labels.get('job', '')}/{one.labels.get('instance', '')}"
