"""Range queries of the Prometheus HTTP API, asked in pieces that the server allows."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx

from phoenix_orch.health_validator.prometheus_recording import (
    Answers,
    Series,
    moments,
    recording,
)
from phoenix_orch.health_validator.recording import Recording
from phoenix_orch.kernel.errors import Invalid, NotFound, Retryable

POINTS = 10_000
"""Values of one series in one answer; Prometheus refuses more than 11,000."""
TIMEOUT = 30.0
TOKEN_VARIABLE = "PHOENIX_PROMETHEUS_TOKEN"  # noqa: S105 - the name of a variable
"""Environment variable with a bearer token: a token on the command line would be seen by everybody."""


@dataclass(frozen=True, slots=True)
class Queries:
    """Selectors of counters, without `rate` or `increase`: whole numbers are wanted."""

    requests: str
    errors: str | None = None
    latency: str | None = None
    """A classic histogram's `_bucket` series."""


def fetch(
    url: str,
    canary: Queries,
    stable: Queries | None,
    *,
    start: datetime,
    end: datetime,
    step: timedelta,
    told: Callable[[str], None] = lambda _: None,
) -> Recording:
    """The recording between two moments. `told` hears which query is asked.

    Raises Invalid for what Prometheus refuses, Retryable while it does not answer, NotFound when the
    query finds nothing.
    """
    token = os.environ.get(TOKEN_VARIABLE, "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    grid = moments(start, end, step)
    with httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=TIMEOUT) as client:
        ours = _answers(client, canary, grid, step, told)
        theirs = _answers(client, stable, grid, step, told) if stable is not None else None
    found = recording(url, grid, ours, theirs)
    if found is None:
        raise NotFound(
            f"{canary.requests} has no two values between {start.isoformat()} and {end.isoformat()}",
            remedy="try the query in Prometheus; --start and --end choose the time",
        )
    return found


def _answers(
    client: httpx.Client,
    queries: Queries,
    grid: tuple[float, ...],
    step: timedelta,
    told: Callable[[str], None],
) -> Answers:
    def asked(query: str | None) -> tuple[Series, ...]:
        if query is None:
            return ()
        told(query)
        return _series(client, query, grid, step)

    return Answers(asked(queries.requests), asked(queries.errors), asked(queries.latency))


def _series(client: httpx.Client, query: str, grid: tuple[float, ...], step: timedelta) -> tuple[Series, ...]:
    found: dict[tuple[tuple[str, str], ...], dict[float, float]] = {}
    for first in range(0, len(grid), POINTS):
        part = grid[first : first + POINTS]
        known = {round(moment, 3): moment for moment in part}
        for series in _asked(client, query, part, step):
            values = found.setdefault(tuple(sorted(series["metric"].items())), {})
            for moment, value in series["values"]:
                place = known.get(round(float(moment), 3))
                if place is not None:
                    values[place] = float(value)
    return tuple(Series(dict(labels), values) for labels, values in found.items())


def _asked(client: httpx.Client, query: str, part: tuple[float, ...], step: timedelta) -> list[Any]:
    parameters = {"query": query, "start": part[0], "end": part[-1], "step": step.total_seconds()}
    try:
        answer = client.post("/api/v1/query_range", data=parameters)
        body = answer.json()
    except httpx.TransportError as error:
        raise Retryable(
            f"Prometheus at {client.base_url} does not answer: {error}",
            remedy="look whether the address is right and reachable from here",
        ) from error
    except ValueError as error:
        raise Invalid(
            f"{client.base_url} answered {answer.status_code} with something that is not of Prometheus",
            remedy="give the address that `/api/v1/query_range` is below",
        ) from error
    if not isinstance(body, dict) or body.get("status") != "success":
        said = body.get("error", answer.status_code) if isinstance(body, dict) else answer.status_code
        raise Invalid(f"Prometheus refuses {query}: {said}", remedy="try the query in Prometheus first")
    try:
        if body["data"]["resultType"] != "matrix":
            raise Invalid(f"{query} is no range of series", remedy="give a selector of counters")
        return list(body["data"]["result"])
    except (KeyError, TypeError):
        raise Invalid(
            f"the answer of {client.base_url} is not one of Prometheus", remedy="look at the address"
        ) from None
