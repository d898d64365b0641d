"""Questions to Prometheus, or to what speaks its HTTP API, and the raw samples of the answers.

Raw means: samples as they were scraped, each with the moment of its scrape. `rate` and `increase` give
fractions, extrapolate, and hide how old a number is; Phoenix counts for itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import httpx

from phoenix_orch.kernel.errors import Invalid, Retryable
from phoenix_orch.runtime.cancellation import cancellation_kept

MOST_BYTES = 64 * 1024 * 1024
"""Of one answer: half a million samples and more. A longer one is refused, not kept."""


class Series(NamedTuple):
    """One time series: its labels, and (moment in seconds since 1970, value), rising in time."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What one endpoint answered."""

    series: tuple[Series, ...]
    now: float
    """The server's clock, to a second: what the age of a sample is told by."""
    endpoint: str
    warnings: tuple[str, ...] = ()
    """The answer is not whole, as Thanos and others say it: a store did not answer."""


class PrometheusApi:
    """Asks the first endpoint that answers, and stays with it. Usable from one event loop; close it."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        token: Callable[[], str] = lambda: "",
        timeout: float = 10.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`urls`: of servers that know the same, in the order of preference. `token` gives a bearer token
        anew for each question, for it may be rotated. `timeout`: seconds for one question to one server."""
        if not urls:
            raise Invalid(
                "no address of Prometheus", remedy="give at least one in `evidence.prometheus.urls`"
            )
        self._urls = [url.rstrip("/") for url in urls]
        self._token = token
        self._timeout = timeout
        self._http = httpx.AsyncClient(timeout=timeout, transport=transport)
        self._good = 0

    async def ask(self, query: str) -> Found:
        """The series of a range selector (`name[2m]`) or of an instant expression.

        Raises Invalid when a server refuses the query, Retryable when none answers.
        """
        faults = []
        for place in range(len(self._urls)):
            number = (self._good + place) % len(self._urls)
            try:
                found = await self._ask(self._urls[number], query)
            except Retryable as fault:
                faults.append(fault.message)
            else:
                self._good = number
                return found
        raise Retryable("; ".join(faults), remedy="look whether Prometheus runs and is reachable from here")

    async def _ask(self, url: str, query: str) -> Found:
        shown = _shown(url)
        token = self._token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        form = {"query": query, "timeout": f"{self._timeout:g}s"}
        body = bytearray()
        try:
            with cancellation_kept():
                async with self._http.stream(
                    "POST", f"{url}/api/v1/query", data=form, headers=headers
                ) as answer:
                    async for piece in answer.aiter_bytes():
                        body += piece
                        if len(body) > MOST_BYTES:
                            raise Invalid(
                                f"{shown} answers {query[:80]} with more than {MOST_BYTES // 1024**2} MiB",
                                remedy="drop labels without bound (user, full path) where it is scraped",
                            )
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise Retryable(f"{shown}: {error or type(error).__name__}") from error
        return _read(shown, query, answer, bytes(body))

    async def aclose(self) -> None:
        await self._http.aclose()


def _read(shown: str, query: str, answer: httpx.Response, body: bytes) -> Found:
    """Of 4xx answers those to bad queries are final; an outage may look like any other."""
    try:
        document = json.loads(body)
        status = document["status"]
    except (ValueError, TypeError, KeyError):
        raise Retryable(f"{shown} answered {answer.status_code} and nothing of Prometheus") from None
    if status != "success":
        said = f"{shown} refuses {query[:200]}: {document.get('error', answer.status_code)}"
        if answer.status_code in (httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY):
            raise Invalid(said, remedy="try the query in Prometheus")
        raise Retryable(said)
    try:
        data = document["data"]
        series = tuple(_series(data["resultType"], found) for found in _listed(data))
    except (KeyError, TypeError, ValueError):
        raise Retryable(f"{shown} answered with a document that is not one of Prometheus") from None
    warnings = tuple(str(text) for text in document.get("warnings") or ())
    return Found(series, _now(answer, series), shown, warnings)


def _listed(data: Mapping[str, Any]) -> Sequence[Any]:
    """A scalar is one series without labels."""
    return [{"metric": {}, "value": data["result"]}] if data["resultType"] == "scalar" else data["result"]


def _series(kind: str, found: Mapping[str, Any]) -> Series:
    points = found["values"] if kind == "matrix" else [found["value"]]
    return Series(found["metric"], tuple((float(moment), float(value)) for moment, value in points))


def _now(answer: httpx.Response, series: Sequence[Series]) -> float:
    """By the answer's date; a proxy may drop it: then the newest sample is the latest that is known."""
    try:
        return parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return max((found.points[-1][0] for found in series if found.points), default=0.0)


def _shown(url: str) -> str:
    """Without the user and password that may be in it."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        return "an address that is none"
    return str(parts.copy_with(username=None, password=None, query=None)) if parts.userinfo else url
