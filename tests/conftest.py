"""Shared by every test: asyncio is the one event loop Phoenix runs on, and no test is judged by the clock."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from tests.ending import end_in_order

from phoenix_orch.runtime.logs import configure_logs

pytest.register_assert_rewrite(  # they tell as much as tests
    "tests.faults.story", "tests.faults.story_cases", "tests.property.rollout_rules"
)
os.environ["PHOENIX_LISTEN"] = "off"  # many run at a time; those that need a port ask for one
configure_logs()  # to standard error from the start, in whatever order tests run in one process
end_in_order()
settings.register_profile("phoenix", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("phoenix")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
