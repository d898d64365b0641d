"""What a request to the API leaves in the access log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.fake_phoenix import FakeOperations
from tests.integration.known import admin

from phoenix_orch.api.server import create_app
from phoenix_orch.observability.access_log import AccessLog

pytestmark = pytest.mark.anyio


async def lines(path: Path, *requests: tuple[str, str], known: bool = True) -> list[dict[str, Any]]:
    """What the access log holds after these requests, one after the other."""
    log = AccessLog(path)
    app = create_app(FakeOperations(), authenticators=(admin,) if known else (), access=log)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://phoenix") as client:
        for number, (method, target) in enumerate(requests):
            await client.request(method, target, headers={"X-Request-ID": f"r{number}"})
    log.close()
    return written(path)


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


async def test_a_line_says_who_asked_by_which_route_and_nothing_of_what(tmp_path: Path) -> None:
    path = tmp_path / "access.jsonl"
    found = await lines(
        path,
        ("GET", "/api/v1/version?token=hunter2"),
        ("GET", "/api/v1/rollouts/planted-name"),
        ("GET", "/planted-path"),
    )
    assert [(one["requestId"], one["method"], one["route"]) for one in found] == [
        ("r0", "GET", "/api/v1/version"),
        ("r1", "GET", "/api/v1/rollouts/{name}"),
        ("r2", "GET", "unmatched"),
    ]
    assert [one["status"] for one in found][::2] == [200, 404]
    assert found[0]["principal"] == "me"
    assert found[0]["address"] == "127.0.0.1"
    assert found[0]["ms"] > 0
    assert not any(word in json.dumps(found) for word in ("hunter2", "planted"))


async def test_who_is_not_let_in_is_noted_too(tmp_path: Path) -> None:
    (found,) = await lines(tmp_path / "access.jsonl", ("GET", "/api/v1/version"), known=False)
    assert (found["status"], found["principal"]) == (401, "")
