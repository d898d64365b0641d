"""A person logs in with a token and out again, in a real browser."""

from __future__ import annotations

import asyncio

import pytest
from tests.e2e.chromium import browser
from tests.integration.locked import Locked

from phoenix_orch.security.rights import Role

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]


def log_in_and_out(address: str, text: str) -> list[str]:
    """What the browser complained about."""
    with browser() as chromium:
        page = chromium.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(f"{address}/console/settings")
        page.fill("#token", "phx_0000000000_guess")
        page.keyboard.press("Enter")
        assert "lets nobody in" in page.text_content("[role=alert]")
        page.fill("#token", text)
        page.keyboard.press("Enter")
        page.wait_for_url("**/console/settings")
        assert "operators" in page.text_content("main")
        page.click("text=Log out")
        page.wait_for_url("**/login")
        page.goto(f"{address}/console")
        assert page.url == f"{address}/login?next=/console"
        return complaints


async def test_somebody_logs_in_with_a_token_and_out_again(tmp_path):
    locked = Locked(tmp_path / "d")
    text = await locked.token(Role.OPERATOR)
    async with locked.served() as address:
        complaints = await asyncio.to_thread(log_in_and_out, address, text)
    assert not [one for one in complaints if "401" not in one], "the policy of content hinders our own page"
