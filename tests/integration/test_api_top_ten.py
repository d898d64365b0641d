"""The ten risks of APIs that OWASP lists (2023), each tried here in ways that are not tried elsewhere."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from structlog.testing import capture_logs
from tests.integration.locked import OWNER, Locked

from phoenix_orch.api.door_walk import ways
from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.orchestrator.api_spec import ApiSpec
from phoenix_orch.orchestrator.limits import LARGEST_BODY
from phoenix_orch.security.oidc_keys import Published
from phoenix_orch.security.rights import EMBEDDED, Grant, Role


@pytest.fixture
def locked(tmp_path):
    return Locked(tmp_path / "d")


# -- 1 broken object level authorization -----------------------------------------------------------


async def test_1_no_name_of_an_object_opens_what_another_namespace_holds(locked):
    async with locked.http(await locked.token(Role.ADMIN, "elsewhere")) as http:
        for path in ("rollouts/web", "services/web", "services/web/logs", "rollouts/web/events", "audit"):
            assert (await http.get(f"/api/v1/{path}")).status_code == 403, path
        assert (await http.get("/api/v1/rollouts/web?namespace=elsewhere")).status_code == 403
        headers = {"x-namespace": "elsewhere", "x-original-url": "/api/v1/version"}
        assert (await http.get("/api/v1/rollouts/web", headers=headers)).status_code == 403


async def test_1_whoever_administers_one_namespace_makes_no_token_for_others(locked):
    async with locked.http(await locked.token(Role.ADMIN, EMBEDDED)) as http:
        body = {"name": "more", "role": "admin", "namespaces": ["*"]}
        assert (await http.post("/api/v1/tokens", json=body)).status_code == 403
        assert len(await locked.identity.tokens.all()) == 1


# -- 2 broken authentication -----------------------------------------------------------------------


async def test_2_a_token_counts_in_its_header_alone(locked):
    text = await locked.token(Role.ADMIN)
    secret = text.split("_", 2)[2]
    basic = base64.b64encode(f"admin:{text}".encode()).decode()
    with capture_logs() as logs:
        async with locked.http() as http:
            for path in (f"version?access_token={text}", f"version?token={text}"):
                assert (await http.get(f"/api/v1/{path}")).status_code == 401
            for headers in (
                {"authorization": f"Basic {basic}"},
                {"authorization": text},
                {"authorization": f"Bearer {text} x"},
                {"authorization": f"Bearer  {text.upper()}"},
                {"x-api-key": text},
                {"cookie": f"phoenix-7007={text}"},
            ):
                answer = await http.get("/api/v1/version", headers=headers)
                assert answer.status_code == 401, headers
                assert secret not in answer.text
    assert secret not in json.dumps(logs, default=str)


async def test_2_no_secret_is_in_logs_answers_or_the_audit_log(locked):
    with capture_logs() as logs:
        async with locked.http(await locked.token(Role.ADMIN)) as http:
            made = (await http.post("/api/v1/tokens", json={"name": "ci", "role": "viewer"})).json()["token"]
            code = (await http.post("/api/v1/login-codes")).json()["code"]
            page = await http.get(f"/login/code?code={code}")
            cookie = page.headers["set-cookie"].partition("=")[2].partition(";")[0]
            answers = [(await http.get(f"/api/v1/{path}")).text for path in ("tokens", "audit", "identity")]
            await http.post("/api/v1/session", json={"token": made[:-2]})
    told = json.dumps(logs, default=str) + "".join(answers)
    told += "".join(str(record) for record in locked.log.newest(100, lambda _: True))
    for secret in (made.split("_", 2)[2], code, cookie):
        assert len(secret) > 30
        assert secret not in told


# -- 3 broken object property level authorization --------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("rollouts/web/commands", {"kind": "pause", "actor": "somebody else"}),
        ("rollouts/web/start", {"version": "2", "actor": "somebody else"}),
        ("rollouts/web/undo", {"by": "somebody else"}),
        ("tokens", {"name": "ci", "role": "viewer", "maker": "user:anna"}),
        ("tokens", {"name": "ci", "role": "viewer", "digest": "0" * 64}),
        ("approvals/x/approve", {"answeredBy": "somebody else"}),
    ],
)
async def test_3_nothing_is_taken_that_is_not_asked_for(locked, path, body):
    async with locked.http(await locked.token(Role.ADMIN)) as http:
        answer = await http.post(f"/api/v1/{path}", json=body)
        assert answer.status_code == 422, answer.text
        assert locked.operations.calls == []
        assert len(await locked.identity.tokens.all()) == 1


async def test_3_what_is_kept_of_a_token_is_not_shown(locked):
    async with locked.http(await locked.token(Role.ADMIN)) as http:
        (shown,) = (await http.get("/api/v1/tokens")).json()
        assert "digest" not in shown
        assert (await locked.identity.tokens.all())[0].digest not in str(shown)


# -- 4 unrestricted resource consumption -----------------------------------------------------------


async def test_4_what_is_too_much_is_refused(locked):
    async with locked.http(await locked.token(Role.ADMIN)) as http:
        big = b'{"kind": "' + b"x" * LARGEST_BODY + b'"}'
        answer = await http.post("/api/v1/rollouts/web/commands", content=big)
        assert answer.status_code == 413
        for path in ("rollouts/web/events", "audit", "tasks", "rollouts/web/observations"):
            for limit in ("1000000000", "-1", "x"):
                answer = await http.get(f"/api/v1/{path}?limit={limit}")
                assert answer.status_code == 422, (path, limit)
        deep = b"[" * 100_000 + b"]" * 100_000
        answer = await http.post(
            "/api/v1/rollouts/web/commands", content=deep, headers={"content-type": "application/json"}
        )
        assert answer.status_code in (400, 422)


async def test_4_whoever_is_not_known_is_counted_by_address(locked):
    async with locked.http() as http:
        statuses = {(await http.get(f"/login/code?code={number}")).status_code for number in range(12)}
        assert statuses == {401, 429}


# -- 5 broken function level authorization ---------------------------------------------------------


async def test_5_no_other_method_or_spelling_gets_past_a_door(locked):
    async with locked.http(await locked.token(Role.VIEWER)) as http:
        for headers in ({"x-http-method-override": "POST"}, {"x-method-override": "DELETE"}):
            answer = await http.get("/api/v1/rollouts/web/commands", headers=headers)
            assert answer.status_code in (404, 405)
        for path in ("/api/v1/tokens/", "/api/v1//tokens", "/API/v1/tokens", "/api/v1/rollouts/../tokens"):
            answer = await http.get(path)
            assert answer.status_code in (307, 403, 404), path
            assert "digest" not in answer.text
        for method in ("PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "OPTIONS"):
            answer = await http.request(method, "/api/v1/tokens")
            assert answer.status_code == 405, method
    assert locked.operations.calls == []


# -- 6 unrestricted access to sensitive business flows ---------------------------------------------


async def test_6_a_freeze_is_overridden_by_whoever_may_approve(locked):
    for role, status in ((Role.OPERATOR, 403), (Role.APPROVER, None)):
        async with locked.http(await locked.token(role)) as http:
            for path, body in (("start", {"version": "2"}), ("commands", {"kind": "retry"})):
                given = {**body, "overrideFreeze": True}
                answer = await http.post(f"/api/v1/rollouts/web/{path}", json=given)
                assert (answer.status_code == 403) is (status == 403), answer.text
            ended = await http.post("/api/v1/freezes/x/end", json={})
            assert (ended.status_code == 403) is (status == 403)


# -- 7 server side request forgery -----------------------------------------------------------------


async def test_7_no_token_makes_phoenix_ask_an_address(tmp_path):
    asked = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        oidc = {"issuer": "http://127.0.0.1:1", "clientId": "phoenix"}
        locked = Locked(tmp_path / "d", ApiSpec.model_validate({"oidc": oidc}))
        header = {"alg": "RS256", "kid": "x", "jku": f"{address}/jku", "x5u": f"{address}/x5u"}
        parts = [header, {"iss": address, "aud": "phoenix", "sub": "x", "exp": 9e9}]
        text = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts)
        async with locked.http(f"{text}.AAAA") as http:
            answer = await http.get(
                "/api/v1/version", headers={"x-forwarded-host": address, "referer": address}
            )
            assert answer.status_code in (401, 503)
            assert (await http.get(f"/login?next={address}")).status_code == 200
        server.shutdown()
        thread.join()
    assert asked == []


# -- 8 security misconfiguration -------------------------------------------------------------------


async def test_8_nothing_is_told_that_nobody_asked_for(locked):
    async with locked.http(await locked.token(Role.ADMIN)) as http:
        for path in (
            "/docs",
            "/redoc",
            "/openapi.json",
            "/.env",
            "/.git/config",
            "/metrics/../token",
            "/token",
        ):
            assert (await http.get(path)).status_code == 404, path

        async def fail():
            raise RuntimeError("s3cr3t inside")

        locked.operations.views = fail
        answer = await http.get("/api/v1/rollouts", headers={"origin": "http://evil.example"})
        assert answer.status_code == 500
        assert "s3cr3t" not in answer.text
        assert "Traceback" not in answer.text
        assert "server" not in answer.headers
        assert not any(name.startswith("access-control") for name in answer.headers)


async def test_8_a_page_from_elsewhere_is_told_of_no_permission(locked):
    """No preflight is answered with one: a browser sends nothing that is more than a form."""
    headers = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    async with locked.http() as http:
        answer = await http.options("/api/v1/rollouts/web/commands", headers=headers)
        assert answer.status_code == 405
        assert not any(name.startswith("access-control") for name in answer.headers)


# -- 9 improper inventory management ---------------------------------------------------------------


async def test_9_whatever_is_served_is_described_or_a_page(locked):
    described = {
        (method.upper(), path) for path, item in locked.app.openapi()["paths"].items() for method in item
    }
    pages = ("/console", "/login", "/logout")
    hidden = {("GET", "/"), ("GET", "/api/v1/openapi.json")}
    for way in ways(locked.app):
        known = (way.method, way.path) in described | hidden
        assert known or way.path.startswith(pages), f"{way.method} {way.path} is not described"
    assert {path.split("/")[2] for _, path in described if path.startswith("/api/")} == {"v1"}


# -- 10 unsafe consumption of APIs -----------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"{}",
        b"<html>",
        b"[" * 100_000,
        b'{"issuer": "http://127.0.0.1", "authorization_endpoint": "javascript:alert(1)"}',
        b"x" * (600 * 1024),
    ],
)
async def test_10_an_identity_provider_is_believed_nothing_that_makes_no_sense(monkeypatch, content):
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=content))
    published = Published("http://127.0.0.1")
    monkeypatch.setattr(published, "http", lambda: httpx.AsyncClient(transport=transport))
    with pytest.raises(Retryable) as caught:
        await published.discovery()
    assert "alert" not in str(caught.value)


async def test_10_words_of_others_are_shown_as_words(locked):
    hostile = "<img src=x onerror=alert(1)>"
    made = await locked.identity.tokens.create("x", (Grant(Role.VIEWER),), by=OWNER, lasting=None)
    async with locked.http(made.text) as http:
        for path in (f"/console/rollouts/{hostile}", f"/login?next={hostile}", f"/login/code?code={hostile}"):
            answer = await http.get(path)
            assert answer.headers["content-type"].startswith("text/html")
            assert "<img src=x" not in answer.text, path
