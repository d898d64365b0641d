"""Shared by every test: asyncio is the one event loop Phoenix runs on."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
