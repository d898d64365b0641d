"""Shared by every test: asyncio is the one event loop Phoenix runs on, and no test is judged by the clock."""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

from phoenix_orch.runtime.logs import configure_logs

configure_logs()  # to standard error from the start, in whatever order tests run in one process
signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background was told to ignore it
settings.register_profile("phoenix", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("phoenix")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
