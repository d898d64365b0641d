"""Addresses at which nobody listens: whoever sends a request there has to answer it himself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from urllib.parse import urlsplit

PATIENCE = 1.0
"""Seconds. Who says nothing for so long may be busy, and is no reason to send nobody there."""


async def refusing(urls: Iterable[str]) -> frozenset[str]:
    """Those of `urls` that refuse a connection. One that cannot be told is not among them."""
    known = sorted(set(urls))
    found = await asyncio.gather(*(_refuses(url) for url in known))
    return frozenset(url for url, refuses in zip(known, found, strict=True) if refuses)


async def _refuses(url: str) -> bool:
    address = urlsplit(url)
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(address.hostname, address.port)
    except ConnectionRefusedError:
        return True
    except (OSError, ValueError):  # TimeoutError is an OSError
        return False
    writer.close()
    return False
