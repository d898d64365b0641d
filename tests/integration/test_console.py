"""The console without a browser: pages, forms, headers, what is escaped, and what a page weighs."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from tests.integration.fake_phoenix import FakeOperations, view

from phoenix_orch.api.server import create_app
from phoenix_orch.console.assets import assets
from phoenix_orch.console.install import install
from phoenix_orch.rollout.status import CommandKind, State
from phoenix_orch.security.rights import Grant, Kind, Principal, Role

LIGHTEST = 200_000
"""Bytes that a page may weigh with everything it loads, compressed."""
HOSTILE = "<img src=x onerror=alert(1)>\"'\x1b[31m"
PAGES = (
    "/console",
    "/console/rollouts/web",
    "/console/rollouts/web/history",
    "/console/rollouts/web/history?a=1&b=2",
    "/console/rollouts/web/releases/2",
    "/console/services",
    "/console/services/web",
    "/console/settings",
)


class Browser:
    """Asks as somebody with a role, and knows what the page before said."""

    def __init__(self, operations: FakeOperations, role: Role | None) -> None:
        principal = Principal("ida", Kind.USER, (Grant(role),)) if role else None

        async def known(_: Any) -> Principal | None:
            return principal

        app = create_app(operations, authenticators=(known,))
        install(app, operations)
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:7007", follow_redirects=False
        )

    async def get(self, path: str, status: int = 200) -> str:
        answer = await self.http.get(path)
        assert answer.status_code == status, answer.text
        return answer.text

    async def token(self) -> str:
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', await self.get("/console/rollouts/web"))
        assert found
        return found[1]

    async def send(self, path: str, headers: dict[str, str] | None = None, **form: str) -> httpx.Response:
        return await self.http.post(path, data=form, headers=headers)


@pytest.fixture
def operations() -> FakeOperations:
    return FakeOperations()


@pytest.fixture
async def browser(operations: FakeOperations) -> AsyncIterator[Browser]:
    made = Browser(operations, Role.OPERATOR)
    async with made.http:
        yield made


class Inline(HTMLParser):
    """Finds what the content security policy would not let pass."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [name for name in given if name == "style" or name.startswith(("on", "hx-on"))]
        if tag == "style" or (tag == "script" and not given.get("src")):
            self.found.append(tag)
        if tag in ("script", "img"):
            self.loaded.append(given.get("src") or "")
        if tag == "link":
            self.loaded.append(given.get("href") or "")


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_light_and_has_nothing_inline(browser: Browser, path: str) -> None:
    answer = await browser.http.get(path)
    assert answer.status_code == 200, answer.text
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    page = Inline()
    page.feed(answer.text)
    assert page.found == []
    weight = len(gzip.compress(answer.content))
    for address in set(page.loaded):
        file = await browser.http.get(address)
        assert file.status_code == 200
        assert "immutable" in file.headers["cache-control"]
        weight += int(file.headers["content-length"])
    assert weight < LIGHTEST


async def test_words_of_others_are_text(browser: Browser, operations: FakeOperations) -> None:
    operations.pictures = [view(message=HOSTILE).model_copy(update={"versions": {"1111111111": HOSTILE}})]
    for path in ("/console", "/console/rollouts/web", "/console/rollouts/web/history"):
        found = await browser.get(path)
        assert "<img src=x" not in found
        assert "\x1b" not in found
    assert "&lt;img src=x onerror=alert(1)&gt;" in await browser.get("/console")


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (CommandKind.PAUSE, State.PROGRESSING),
        (CommandKind.RESUME, State.PAUSED),
        (CommandKind.PROMOTE, State.PROGRESSING),
        (CommandKind.PROMOTE_FULL, State.PROGRESSING),
        (CommandKind.ABORT, State.PROGRESSING),
        (CommandKind.RETRY, State.ROLLED_BACK),
    ],
)
async def test_a_button_gives_its_command(
    browser: Browser, operations: FakeOperations, kind: CommandKind, state: State
) -> None:
    operations.pictures = [view(state)]
    token = await browser.token()
    assert f'commandfor="ask-{kind.value}"' in await browser.get("/console/rollouts/web")
    answer = await browser.send(f"/console/rollouts/web/{kind.value}", csrf=token, reason="a test")
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        f"/console/rollouts/web?done={kind.value}",
    )
    assert ("command", "web", kind, "ida", "a test") == operations.calls[-1][:5]
    assert 'class="note good"' in await browser.get(answer.headers["location"])


async def test_start_undo_and_restart(browser: Browser, operations: FakeOperations) -> None:
    token = await browser.token()
    started = await browser.send("/console/rollouts/web/start", csrf=token, version="2.0", reason="why")
    assert started.status_code == 303
    undone = await browser.send("/console/rollouts/web/undo", csrf=token, revision="1", reason="bad")
    assert undone.status_code == 303
    restarted = await browser.send("/console/services/web/restart", csrf=token)
    assert restarted.status_code == 303
    kinds = [call[0] for call in operations.calls if call[0] != "observations"]
    assert kinds == ["start", "undo", "restart"]
    assert ("undo", "web", 1, "ida", "bad") in operations.calls


async def test_a_form_from_elsewhere_changes_nothing(browser: Browser, operations: FakeOperations) -> None:
    token = await browser.token()
    abort = "/console/rollouts/web/abort"
    assert (await browser.send(abort, reason="none")).status_code == 403
    assert (await browser.send(abort, csrf="0" * 64)).status_code == 403
    foreign = await browser.send(abort, {"origin": "http://elsewhere.example"}, csrf=token)
    assert foreign.status_code == 403
    json = await browser.http.post(abort, json={"csrf": token})
    assert json.status_code == 422
    assert not [call for call in operations.calls if call[0] == "command"]
    own = await browser.send(abort, {"origin": "http://127.0.0.1:7007"}, csrf=token)
    assert own.status_code == 303


async def test_a_viewer_looks_and_does_nothing(operations: FakeOperations) -> None:
    viewer = Browser(operations, Role.VIEWER)
    async with viewer.http:
        page = await viewer.get("/console/rollouts/web")
        assert 'class="may-look"' in page
        assert '<form method="post"' not in page
        assert (await viewer.send("/console/rollouts/web/abort", csrf="0")).status_code == 403
    assert not [call for call in operations.calls if call[0] == "command"]


async def test_errors_are_pages_that_say_what_to_do(browser: Browser, operations: FakeOperations) -> None:
    missing = await browser.get("/console/rollouts/nothing", 404)
    assert "there is no rollout" in missing
    assert "rollouts: web" in missing
    operations.refuses = "too late"
    token = await browser.token()
    late = await browser.send("/console/rollouts/web/resume", csrf=token)
    assert late.status_code == 409
    assert "phoenix rollout" in late.text
    odd = await browser.send("/console/rollouts/web/explode", csrf=token)
    assert odd.status_code == 422
    operations.away = True
    assert "the store does not answer" in await browser.get("/console", 503)


async def test_who_is_not_known_sees_nothing(operations: FakeOperations) -> None:
    nobody = Browser(operations, None)
    async with nobody.http:
        for path in PAGES:
            answer = await nobody.http.get(path)
            assert answer.status_code in (303, 401)
            assert "1.5.0" not in answer.text


async def test_a_file_is_packed_for_who_unpacks(browser: Browser) -> None:
    for name, asset in assets().items():
        address = f"/console/static/{asset.digest}/{name}"
        plain = await browser.http.get(address, headers={"accept-encoding": "identity"})
        assert plain.content == asset.content
        assert (await browser.http.get(address)).content == asset.content
    assert (await browser.http.get("/console/static/0123/console.js")).status_code == 404
