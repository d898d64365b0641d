"""A whole Phoenix under load, its console behind a port, and a browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext
from tests.e2e.chromium import browser
from tests.e2e.relay import relay
from tests.faults.story import Story

LIMITS = {"errorRate": "20%", "latencyP95": "2s"}
PHASES = (
    {"name": "initial", "weight": 5, "duration": "30m", "limits": LIMITS},
    {"name": "expanded", "weight": 20, "duration": "30m", "limits": LIMITS},
    {"name": "full", "step": 20, "every": "30m", "limits": LIMITS},
)
"""Steps that last until somebody says the word: every button is pressed by a person here."""


@pytest.fixture(scope="module")
def phoenix() -> Iterator[Story]:
    settings = {"rollout": {"phases": PHASES}, "policy": {"bake": "2h", "progressDeadline": "9h"}}
    with Story(settings=settings, rate=100.0) as made:
        yield made


@pytest.fixture(scope="module")
def address(phoenix: Story) -> Iterator[str]:
    with relay(phoenix.data / "phoenix.sock") as found:
        yield found


@pytest.fixture(scope="module")
def chromium(phoenix: Story) -> Iterator[Browser]:  # a story begins before a browser's loop runs
    with browser() as made:
        yield made


@pytest.fixture
def context(chromium: Browser, address: str) -> Iterator[BrowserContext]:
    made = chromium.new_context(base_url=address, viewport={"width": 1280, "height": 900})
    made.set_default_timeout(30_000)
    yield made
    made.close()
