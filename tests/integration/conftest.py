"""What many of these tests stand on: a Valkey of their module, and what they open."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from phoenix_orch.runtime.valkey_server import ServerInfo, ValkeyServer

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerInfo]:
    """A Valkey that all tests of a module share."""
    keeper = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    yield asyncio.run(keeper.ensure())
    asyncio.run(keeper.stop())


@pytest.fixture
def prefix() -> str:
    """Of keys that this test has for itself."""
    return f"phoenix:test{next(_numbers)}:"


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    """Closes what is put into it."""
    async with AsyncExitStack() as stack:
        yield stack
