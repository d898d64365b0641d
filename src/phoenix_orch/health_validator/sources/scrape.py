"""One page of metrics over HTTP, within a time and a size, or the reason why not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

import httpx

from phoenix_orch.health_validator.sources.sieve import Interest, Sieve

T = TypeVar("T")

MIB = 1024 * 1024


class Size(NamedTuple):
    """How much of a page is read."""

    most_bytes: int
    most_lines: int
    """Of interest."""


PROCESS = Size(2 * MIB, 3_000)
"""Of a program that may be anybody's. Every line of interest is followed from scrape to scrape."""
ROUTER = Size(16 * MIB, 20_000)
"""Our own router's page holds all services, 22 lines for each method and status; one route's are wanted."""

QUICK = 200
"""Lines, or series of them, that are worked through at once: it takes some milliseconds."""


class Answer(NamedTuple):
    """`text` is None when there was no usable answer; `fault` says why."""

    text: str | None
    fault: str = ""


class Scraper:
    """Keeps connections open between scrapes; close it when done. Usable from one event loop."""

    def __init__(self, *, timeout: float = 2.0, at_once: int = 50) -> None:
        """`timeout`: seconds for one whole page. `at_once`: pages that are read side by side."""
        self._timeout = timeout
        self._room = asyncio.Semaphore(at_once)
        # Loopback knows no proxies, nor do pods. A fresh connection per host and scrape would cost more than
        # the page. A compressed page may be a thousand times as long as it seems.
        self._http = httpx.AsyncClient(
            timeout=timeout,
            trust_env=False,
            verify=False,  # noqa: S501 - a pod has no name that a certificate could vouch for
            headers={"accept-encoding": "identity"},
        )
        self._turn = asyncio.Lock()

    async def get(self, url: str, interest: Interest, size: Size = PROCESS) -> Answer:
        """GET the lines of interest of the page. Never raises but for cancellation."""
        try:
            async with self._room, asyncio.timeout(self._timeout):
                return await self._read(url, Sieve(interest, most=size.most_lines), size)
        except TimeoutError:
            return Answer(None, f"{url}: no answer within {self._timeout:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return Answer(None, f"{url}: {error or type(error).__name__}")
        except ValueError as error:
            return Answer(None, f"{url}: {error}")

    async def _read(self, url: str, sieve: Sieve, size: Size) -> Answer:
        """Piece by piece, so that others have their turn in between."""
        async with self._http.stream("GET", url) as response:
            if response.status_code != httpx.codes.OK:
                return Answer(None, f"{url}: answered {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                return Answer(None, f"{url}: the page is compressed, which was not asked for")
            length = 0
            async for piece in response.aiter_raw():
                length += len(piece)
                if length > size.most_bytes:
                    most = f"{size.most_bytes // MIB} MiB"
                    return Answer(
                        None,
                        f"{url}: a page of more than {most}: export fewer series (no user, no full path)",
                    )
                sieve.feed(piece)
                await asyncio.sleep(0)
            return Answer(sieve.text())

    async def beside(self, work: Callable[[], T], *, lines: int) -> T:
        """The result of `work` on so many lines, beside the event loop where there are many: in a thread, and
        one at a time, since threads take turns with the loop, and many of them would leave it few.
        Raises what `work` raises."""
        if lines <= QUICK:
            return work()
        async with self._turn:
            return await asyncio.to_thread(work)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
