"""One page over HTTP, within a time and a size, or the reason why not."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import NamedTuple, Self

import httpx

LARGEST_PAGE = 16 * 1024 * 1024


class Answer(NamedTuple):
    """`text` is None when there was no usable answer; `fault` says why."""

    text: str | None
    fault: str = ""


class Scraper:
    """Keeps connections open between scrapes; close it when done. Usable from one event loop."""

    def __init__(self, *, timeout: float = 2.0) -> None:
        """`timeout`: seconds for one whole page."""
        self._timeout = timeout
        # Loopback knows no proxies. A fresh connection per host and scrape would cost more than the page.
        self._http = httpx.AsyncClient(timeout=timeout, trust_env=False, verify=False)  # noqa: S501 - no TLS

    async def get(self, url: str) -> Answer:
        """GET the page. Never raises but for cancellation."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._read(url)
        except TimeoutError:
            return Answer(None, f"{url}: no answer within {self._timeout:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return Answer(None, f"{url}: {error or type(error).__name__}")

    async def _read(self, url: str) -> Answer:
        async with self._http.stream("GET", url) as response:
            if response.status_code != httpx.codes.OK:
                return Answer(None, f"{url}: answered {response.status_code}")
            body = bytearray()
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > LARGEST_PAGE:
                    return Answer(None, f"{url}: the page is larger than {LARGEST_PAGE} bytes")
            return Answer(body.decode(errors="replace"))

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
