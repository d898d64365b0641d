"""The console without a browser: pages, forms, headers, what is escaped, and what a page weighs."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from tests.integration.fake_phoenix import NOW, FakeOperations, view

from phoenix_orch.api.server import create_app
from phoenix_orch.console.assets import assets
from phoenix_orch.console.install import install
from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.orchestrator.recovery_look import ComponentLook, RecoveryView
from phoenix_orch.recovery.drill_report import Kind as DrillKind
from phoenix_orch.recovery.drill_report import Phase, Report, Rpo, Step, sealed
from phoenix_orch.rollout.status import CommandKind, State
from phoenix_orch.security.audit_chain import Entry
from phoenix_orch.security.audit_log import AuditLog
from phoenix_orch.security.rights import Grant, Kind, Principal, Role
from phoenix_orch.tasks.port import ScheduleView, TaskPage
from phoenix_orch.tasks.record import LogEntry, LogKind, TaskRecord
from phoenix_orch.tasks.record import State as TaskState

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
    "/console/tasks",
    "/console/tasks?state=running",
    "/console/tasks/t1",
    "/console/recovery",
    "/console/recovery/drills/d1",
    "/console/audit",
    "/console/audit?action=rollout.*",
    "/console/settings",
)


class FakeTasks:
    """One task that failed and one schedule. What would change something is kept in `calls`."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self.task = TaskRecord(
            id="t1",
            kind="prune",
            key="prune",
            created=NOW,
            due=NOW,
            state=TaskState.FAILED,
            actor="ida",
            progress=0.5,
            text=HOSTILE,
            error="the disk is full",
        )

    async def page(self, **_: Any) -> TaskPage:
        return TaskPage(items=[self.task], next="t0")

    async def show(self, id: str) -> TaskRecord:  # noqa: A002
        if id != self.task.id:
            raise NotFound(f"there is no task {id!r}", remedy="`phoenix task list`")
        return self.task

    async def logs(self, id: str, **_: Any) -> list[LogEntry]:  # noqa: A002
        return [LogEntry(id="1-0", at=NOW, kind=next(iter(LogKind)), text=HOSTILE)]

    async def schedules(self) -> list[ScheduleView]:
        return [
            ScheduleView(
                name="nightly",
                timing="0 3 * * *",
                kind="prune",
                paused=False,
                next=NOW,
                last=NOW,
                runs=3,
                missed=1,
                skipped=0,
                task="t1",
            )
        ]

    async def cancel(self, id: str, *, actor: str) -> TaskRecord:  # noqa: A002
        self.calls.append(("cancel", id, actor))
        return self.task

    async def retry(self, id: str, *, actor: str) -> TaskRecord:  # noqa: A002
        self.calls.append(("retry", id, actor))
        return self.task

    async def pause(self, name: str, *, actor: str) -> None:
        self.calls.append(("pause", name, actor))

    async def resume(self, name: str, *, actor: str) -> None:
        self.calls.append(("resume", name, actor))

    async def run_schedule(self, name: str, *, actor: str) -> TaskRecord:
        self.calls.append(("run", name, actor))
        return self.task


class FakeRecovery:
    """One component with a good backup, one without, and a drill that failed."""

    report = sealed(
        Report(
            id="d1",
            kind=DrillKind.MONTHLY,
            cluster="local",
            namespace="default",
            started=NOW,
            ended=NOW,
            by=HOSTILE,
            host="here",
            phoenix="1",
            steps=(Step(phase=Phase.LOAD, component="redis", passed=False, seconds=2.5, detail=HOSTILE),),
            rpo=(Rpo(component="redis", achieved=600, target=1800), Rpo(component="config", target=60)),
            rto=2.5,
            rto_target=1800,
            reasons=(f"load redis: {HOSTILE}",),
            passed=False,
        )
    )

    async def overview(self) -> RecoveryView:
        good = ComponentLook("redis", 3, "b1", NOW, 1.5, 4, 1000)
        return RecoveryView([good, ComponentLook("config", 0, problems=(HOSTILE,))], [self.report], [HOSTILE])

    async def drill(self, id: str) -> Report:  # noqa: A002
        if id != "d1":
            raise NotFound(f"there is no drill {id!r}")
        return self.report


class Browser:
    """Asks as somebody with a role, and knows what the page before said."""

    def __init__(self, operations: FakeOperations, role: Role | None, folder: Path) -> None:
        principal = Principal("ida", Kind.USER, (Grant(role),)) if role else None

        async def known(_: Any) -> Principal | None:
            return principal

        self.tasks = operations.tasks = FakeTasks()  # type: ignore[assignment]
        log = AuditLog(folder / "audit")
        log.append([Entry(at=NOW, actor="ida", action="rollout.abort", target="rollout/web", reason=HOSTILE)])
        app = create_app(operations, authenticators=(known,))
        install(app, operations, log, FakeRecovery())
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
async def browser(operations: FakeOperations, tmp_path: Path) -> AsyncIterator[Browser]:
    made = Browser(operations, Role.OPERATOR, tmp_path)
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


async def test_tasks_and_schedules_are_steered(browser: Browser) -> None:
    token = await browser.token()
    words = (
        "t1/cancel",
        "t1/retry",
        "schedules/nightly/pause",
        "schedules/nightly/resume",
        "schedules/nightly/run",
    )
    for word in words:
        answer = await browser.send(f"/console/tasks/{word}", csrf=token)
        assert answer.status_code == 303
        assert 'class="note good"' in await browser.get(answer.headers["location"])
        assert (await browser.send(f"/console/tasks/{word}", csrf="0")).status_code == 403
    assert browser.tasks.calls == [
        ("cancel", "t1", "ida"),
        ("retry", "t1", "ida"),
        ("pause", "nightly", "ida"),
        ("resume", "nightly", "ida"),
        ("run", "nightly", "ida"),
    ]
    assert "there is no task" in await browser.get("/console/tasks/t2", 404)


async def test_the_audit_log_is_searched(browser: Browser) -> None:
    assert "rollout/web" in await browser.get("/console/audit?actor=i*&action=rollout.abort")
    assert "No record is like that" in await browser.get("/console/audit?actor=otto")
    for path in ("/console/audit", "/console/tasks", "/console/tasks/t1"):
        assert "<img src=x" not in await browser.get(path)


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


async def test_a_viewer_looks_and_does_nothing(operations: FakeOperations, tmp_path: Path) -> None:
    viewer = Browser(operations, Role.VIEWER, tmp_path)
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


HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/console/rollout/web", 404, "there is no /console/rollout/web"),
        ("GET", "/console/static/0123/nothing.js", 404, ""),
        ("DELETE", "/console/services", 405, "Method Not Allowed"),
        ("GET", f"/console/{quote(HOSTILE)}", 404, "&lt;img src=x"),
    ],
)
async def test_a_browser_gets_a_page_where_there_is_none(
    browser: Browser, method: str, path: str, status: int, words: str
) -> None:
    seen = await browser.http.request(method, path, headers=HTML)
    assert (seen.status_code, seen.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert words in seen.text
    assert "<img" not in seen.text
    assert 'href="/console"' in seen.text
    assert "default-src 'none'" in seen.headers["content-security-policy"]
    assert int(seen.headers["content-length"]) == len(seen.content)
    assert seen.headers["x-request-id"]


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/console/nothing", {"accept": "application/json"}),
        ("/console/nothing", {"accept": "*/*"}),
        ("/consoles", HTML),
        ("/api/v1/nothing", HTML),
    ],
)
async def test_programs_and_the_api_get_problems_as_ever(
    browser: Browser, path: str, headers: dict[str, str]
) -> None:
    seen = await browser.http.get(path, headers=headers)
    assert (seen.status_code, seen.headers["content-type"]) == (404, "application/problem+json")
    assert seen.json()["code"] == "not_found"


async def test_a_fault_that_nobody_foresaw_is_a_page_too(
    browser: Browser, operations: FakeOperations
) -> None:
    operations.broken = True
    seen = await browser.http.get("/console", headers=HTML)
    assert (seen.status_code, seen.headers["content-type"]) == (500, "text/html; charset=utf-8")
    assert "Error inside Phoenix" in seen.text


async def test_who_is_not_known_sees_nothing(operations: FakeOperations, tmp_path: Path) -> None:
    nobody = Browser(operations, None, tmp_path)
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


@pytest.mark.anyio
async def test_recovery_is_shown(browser: Browser) -> None:
    page = await browser.get("/console/recovery")
    assert "RPO" in page
    assert ">b1<" in page
    assert 'href="/console/recovery/drills/d1"' in page
    report = await browser.get("/console/recovery/drills/d1")
    assert "nothing can be recovered" in report
    assert "10 min" in report
    assert FakeRecovery.report.evidence in report
    await browser.get("/console/recovery/drills/d2", 404)
