"""Tokens, sessions, login codes and second persons, over HTTP and on a real port."""

from __future__ import annotations

import asyncio
import re
import socket
from datetime import timedelta

import httpx
import pytest
from tests.integration.locked import HOST, OWNER, Locked

from phoenix_orch.api.hardening import HEADERS
from phoenix_orch.api.tcp import bound
from phoenix_orch.kernel.errors import Invalid, Terminal
from phoenix_orch.orchestrator.api_spec import ApiSpec
from phoenix_orch.orchestrator.identity import Doorkeeper
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.security.rights import Grant, Kind, Principal, Role

OWN_PAGE = {"origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}
ANNA = Principal("anna", Kind.OIDC, (Grant(Role.ADMIN),))


@pytest.fixture
def locked(tmp_path):
    return Locked(tmp_path / "d")


async def logged_in(locked, http, role=Role.OPERATOR) -> str:
    """Log in with a new token, whose id is given."""
    text = await locked.token(role)
    answer = await http.post("/login", data={"token": text, "next": "/console"}, headers=OWN_PAGE)
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"] == "/console"
    return text.split("_")[1]


async def test_who_logged_in_and_out_is_recorded_with_where_they_came_from(locked):
    async with locked.http() as http:
        token = await logged_in(locked, http)
        assert (await http.post("/logout", headers=OWN_PAGE)).status_code == 303
    await locked.recorder.drain()
    told = [one for one in locked.log.newest(100) if one.action.startswith("session.")]
    assert {(one.actor, one.source) for one in told} == {("operators", "192.0.2.7")}
    assert sorted(one.action for one in told) == ["session.begin", "session.end"]
    assert all(one.request_id for one in told)
    assert token not in repr(told)


# -- tokens ----------------------------------------------------------------------------------------


async def test_a_token_is_made_used_listed_and_revoked(locked):
    async with locked.http(await locked.token(Role.ADMIN)) as http:
        made = (await http.post("/api/v1/tokens", json={"name": "ci", "role": "operator"})).json()
        async with locked.http(made["token"]) as other:
            assert (await other.get("/api/v1/identity")).json()["name"] == "ci"
        listed = (await http.get("/api/v1/tokens")).json()
        (seen,) = [one for one in listed if one["id"] == made["view"]["id"]]
        assert seen["state"] == "valid"
        assert seen["lastUsed"] is not None
        assert made["token"].split("_", 2)[2] not in str(listed)
        revoked = await http.post(f"/api/v1/tokens/{seen['id']}/revoke", json={"reason": "it leaked"})
        assert revoked.json()["state"] == "revoked"
        again = await http.post(f"/api/v1/tokens/{seen['id']}/revoke", json={})
        assert again.status_code == 409
        async with locked.http(made["token"]) as other:
            assert (await other.get("/api/v1/identity")).status_code == 401
    reasons = [record.reason for record in locked.log.newest(50, lambda one: one.action == "token.revoke")]
    assert "it leaked" in reasons


async def test_a_dry_run_makes_nothing_and_revokes_nothing(locked):
    text = await locked.token(Role.ADMIN)
    async with locked.http(text) as http:
        body = {"name": "ci", "role": "viewer", "dryRun": True}
        assert (await http.post("/api/v1/tokens", json=body)).json()["token"] == ""
        name = text.split("_")[1]
        assert (await http.post(f"/api/v1/tokens/{name}/revoke", json={"dryRun": True})).is_success
        assert [one["state"] for one in (await http.get("/api/v1/tokens")).json()] == ["valid"]


@pytest.mark.parametrize(
    "body",
    [
        {"name": "", "role": "viewer"},
        {"name": "x" * 101, "role": "viewer"},
        {"name": "a\nb", "role": "viewer"},
        {"name": "ci", "role": "root"},
        {"name": "ci", "role": "viewer", "lasting": "400d"},
        {"name": "ci", "role": "viewer", "namespaces": []},
    ],
)
async def test_no_token_is_made_of_what_makes_no_sense(locked, body):
    async with locked.http(await locked.token(Role.ADMIN)) as http:
        assert (await http.post("/api/v1/tokens", json=body)).status_code == 422
        assert len(await locked.identity.tokens.all()) == 1


async def test_tokens_are_kept_over_a_restart_and_no_secret_is_on_the_disk(locked):
    text = await locked.token(Role.ADMIN)
    layout = locked.identity._layout
    again = Doorkeeper(layout, locked.identity._recorder)
    assert (await again.tokens.known_by(text)).name == "admins"
    secret = text.split("_", 2)[2].encode()
    for path in layout.root.rglob("*"):
        if path.is_file():
            assert secret not in path.read_bytes(), path
    assert layout.tokens.stat().st_mode & 0o777 == 0o600


async def test_the_first_token_is_made_once_for_its_owner_alone(locked):
    path = await locked.identity.make_first()
    assert path.stat().st_mode & 0o777 == 0o600
    assert (await locked.identity.tokens.known_by(path.read_text().strip())).administers
    assert await locked.identity.make_first() is None


def test_tokens_that_cannot_be_read_let_nobody_start(tmp_path):
    layout = Layout(tmp_path)
    layout.tokens.write_text('{"tokens": {"x": {"secret": "s3cr3t"}}}')
    with pytest.raises(Terminal, match=r"tokens\.json cannot be read") as caught:
        Doorkeeper(layout, None)
    assert "s3cr3t" not in str(caught.value)


# -- sessions --------------------------------------------------------------------------------------


async def test_a_browser_logs_in_sees_pages_acts_and_logs_out(locked):
    async with locked.http() as http:
        lost = await http.get("/console/services")
        assert lost.headers["location"] == "/login?next=/console/services"
        page = await http.get(lost.headers["location"])
        assert 'value="/console/services"' in page.text
        await logged_in(locked, http)
        assert (await http.get("/console")).status_code == 200
        csrf = (await http.get("/api/v1/session")).json()["csrf"]
        assert csrf in (await http.get("/console/rollouts/web")).text
        command = {"kind": "pause"}
        done = await http.post(
            "/api/v1/rollouts/web/commands", json=command, headers={**OWN_PAGE, "x-csrf-token": csrf}
        )
        assert done.status_code == 202
        form = {"csrf": csrf, "reason": "lunch"}
        done = await http.post("/console/rollouts/web/pause", data=form, headers=OWN_PAGE)
        assert done.status_code == 303, done.text
        assert [call[0] for call in locked.operations.calls] == ["command", "command"]
        out = await http.post("/logout", data={"csrf": csrf}, headers=OWN_PAGE)
        assert out.status_code == 303
        assert (await http.get("/console")).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {**OWN_PAGE, "sec-fetch-site": "cross-site"},
        {**OWN_PAGE, "sec-fetch-site": "same-site"},
        {**OWN_PAGE, "origin": "http://127.0.0.1:9999"},
        OWN_PAGE,
        {**OWN_PAGE, "x-csrf-token": "guessed"},
        {**OWN_PAGE, "x-csrf-token": ""},
    ],
)
async def test_no_page_from_elsewhere_does_anything_with_a_cookie(locked, headers):
    async with locked.http() as http:
        await logged_in(locked, http)
        csrf = (await http.get("/api/v1/session")).json()["csrf"]
        if "x-csrf-token" not in headers and headers != OWN_PAGE:
            headers = {**headers, "x-csrf-token": csrf}
        answer = await http.post("/api/v1/rollouts/web/commands", json={"kind": "abort"}, headers=headers)
        assert answer.status_code == 403
        form = {"reason": "", "csrf": headers.get("x-csrf-token", "")}
        sent = {name: value for name, value in headers.items() if name != "x-csrf-token"}
        assert (await http.post("/console/rollouts/web/abort", data=form, headers=sent)).status_code == 403
        assert locked.operations.calls == []


async def test_the_cookie_is_for_this_browser_and_over_tls_for_this_host_alone(locked):
    text = await locked.token(Role.VIEWER)
    for scheme, name in (("http", "phoenix-7007"), ("https", "__Host-phoenix")):
        async with locked.http(scheme=scheme) as http:
            answer = await http.post("/api/v1/session", json={"token": text})
            assert answer.status_code == 201
            cookie = answer.headers["set-cookie"]
            assert cookie.startswith(f"{name}=")
            flags = {part.strip().lower() for part in cookie.split(";")[1:]}
            assert {"httponly", "samesite=lax", "path=/"} <= flags
            assert ("secure" in flags) == (scheme == "https")
            assert not any(flag.startswith("domain") for flag in flags)
            assert ("strict-transport-security" in answer.headers) == (scheme == "https")
            assert text not in cookie


async def test_a_login_gives_another_name_and_ends_the_session_before(locked):
    async with locked.http() as http:
        await logged_in(locked, http)
        first = dict(http.cookies)
        await logged_in(locked, http)
        assert dict(http.cookies) != first
    async with locked.http() as http:
        http.cookies.update(first)
        assert (await http.get("/api/v1/identity")).status_code == 401


async def test_a_session_ends_with_its_token_and_with_its_time(locked):
    async with locked.http() as http:
        name = await logged_in(locked, http)
        await locked.identity.tokens.revoke(name, by=OWNER, reason="")
        assert (await http.get("/api/v1/identity")).status_code == 401
        await logged_in(locked, http)
        locked.moved += timedelta(minutes=31)
        assert (await http.get("/api/v1/identity")).status_code == 401


async def test_a_code_lets_one_browser_in_once(locked):
    code = locked.identity.sessions.code(OWNER)
    async with locked.http() as http:
        first = await http.get(f"/login/code?code={code}&next=/console")
        assert (first.status_code, first.headers["location"]) == (303, "/console")
        assert (await http.get("/api/v1/identity")).json()["name"] == "owner"
    async with locked.http() as http:
        assert (await http.get(f"/login/code?code={code}")).status_code == 401
        assert "cookie" not in str((await http.get(f"/login/code?code={code}")).headers)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_no_page_from_elsewhere_logs_a_browser_in_as_somebody_else(locked, site):
    """Its link carries the code, or its script the token, of whoever made that page."""
    led = {"sec-fetch-site": site}
    text, code = await locked.token(Role.VIEWER), locked.identity.sessions.code(OWNER)
    async with locked.http() as http:
        answer = await http.get(f"/login/code?code={code}", headers=led)
        assert answer.status_code == 403
        assert "cookie" not in str(answer.headers)
        answer = await http.post("/api/v1/session", json={"token": text}, headers=led)
        assert answer.status_code == 403
        assert "cookie" not in str(answer.headers)
        typed = await http.get(f"/login/code?code={code}", headers={"sec-fetch-site": "none"})
        assert typed.status_code == 303  # and it was not used up


async def test_who_asks_is_said_once(locked):
    viewer, admin = await locked.token(Role.VIEWER), await locked.token(Role.ADMIN)
    async with locked.http() as http:
        for first, second in ((viewer, admin), (viewer, viewer), ("x", admin)):
            twice = [("Authorization", f"Bearer {first}"), ("Authorization", f"Bearer {second}")]
            answer = await http.get("/api/v1/identity", headers=twice)
            assert answer.status_code == 401
            assert "says twice who asks" in answer.json()["detail"]


async def test_a_code_is_worth_no_more_than_the_token_that_asked_for_it(locked):
    text = await locked.token(Role.VIEWER)
    async with locked.http(text) as http:
        codes = [(await http.post("/api/v1/login-codes")).json()["code"] for _ in range(2)]
    async with locked.http() as http, locked.http() as late:
        assert (await http.get(f"/login/code?code={codes[0]}")).status_code == 303
        assert (await http.get("/api/v1/version")).status_code == 200
        await locked.identity.tokens.revoke(text.split("_")[1], by=OWNER, reason="")
        assert (await http.get("/api/v1/version")).status_code == 401
        assert (await late.get(f"/login/code?code={codes[1]}")).status_code == 401


@pytest.mark.parametrize(
    "place",
    [
        "//evil.example",
        "http://evil.example",
        "/\\evil.example",
        "/login/../..//x",
        "javascript:x",
        "/a\nb",
        "",
    ],
)
async def test_a_login_leads_to_no_other_place(locked, place):
    text = await locked.token(Role.VIEWER)
    async with locked.http() as http:
        answer = await http.post("/login", data={"token": text, "next": place}, headers=OWN_PAGE)
        assert answer.headers["location"] == "/"
        page = await http.get("/login", params={"next": '"><script>'})
        assert "<script" not in page.text


async def test_a_login_form_from_elsewhere_logs_nobody_in(locked):
    text = await locked.token(Role.VIEWER)
    async with locked.http() as http:
        answer = await http.post("/login", data={"token": text}, headers={"origin": "http://evil.example"})
        assert answer.status_code == 403
        assert not http.cookies


# -- what is in front of all routes ----------------------------------------------------------------


async def test_answers_carry_headers_that_make_browsers_careful(locked):
    async with locked.http() as http:
        await logged_in(locked, http)
        for path in ("/api/v1/rollouts", "/login", "/console", "/healthz/live", "/nowhere"):
            headers = (await http.get(path)).headers
            for name in set(HEADERS) - {"content-security-policy"}:
                assert name in headers, (path, name)
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:7007", True),
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("[::1]:7007", True),
        ("phoenix.example:443", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example:7007", False),
        ("evil.example:7007@127.0.0.1", False),
    ],
)
async def test_it_answers_only_to_its_names(tmp_path, host, known):
    locked = Locked(tmp_path / "d", ApiSpec(hosts=("phoenix.example",)))
    async with locked.http(await locked.token(Role.ADMIN)) as http:
        answer = await http.get("/api/v1/version", headers={"host": host})
        assert answer.status_code == (200 if known else 421)


async def test_failed_logins_are_slowed_down_and_do_not_lock_others_out(locked):
    text = await locked.token(Role.VIEWER)
    async with locked.http("phx_0000000000_guess") as http:
        statuses = [(await http.get("/api/v1/version")).status_code for _ in range(12)]
        assert statuses == [401] * 10 + [429] * 2
        answer = await http.post("/login", data={"token": "phx_guess"}, headers=OWN_PAGE)
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 5
    async with locked.http(text) as http:
        assert (await http.get("/api/v1/version")).status_code == 200


async def test_whoever_asks_too_often_waits_and_nobody_else(tmp_path):
    locked = Locked(tmp_path / "d", ApiSpec(requests_per_second=0.2))
    async with locked.http(await locked.token(Role.VIEWER)) as http:
        assert (await http.get("/api/v1/version")).status_code == 200
        answer = await http.get("/api/v1/version")
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests")
        assert int(answer.headers["retry-after"]) >= 1
    async with locked.http(await locked.token(Role.OPERATOR)) as http:
        assert (await http.get("/api/v1/version")).status_code == 200


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("abc-123.X:1", True), ("a" * 64, True), ("a" * 65, False), ("a b", False), ("", False), ("-x", False)],
)
async def test_a_request_keeps_a_sane_id_and_gets_one_else(locked, sent, kept):
    async with locked.http() as http:
        answer = await http.get("/api/v1/version", headers={"x-request-id": sent})
        given = answer.headers["x-request-id"]
        assert (given == sent) is kept
        assert re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", given)
        assert answer.json()["requestId"] == given


# -- on a real port --------------------------------------------------------------------------------


async def next_of(lines, word: str) -> str:
    async with asyncio.timeout(20):
        async for line in lines:
            if word in line:
                return line
    raise AssertionError(f"the stream ended without {word!r}")


@pytest.mark.parametrize("how", ["token", "session", "logout", "time"])
async def test_a_stream_ends_with_what_let_it_in(locked, how):
    made = await locked.identity.tokens.create(
        "viewer", (Grant(Role.VIEWER),), by=OWNER, lasting=timedelta(seconds=3) if how == "time" else None
    )
    async with locked.served() as address, httpx.AsyncClient(base_url=address, timeout=20) as http:
        headers = {}
        if how in ("session", "logout"):
            assert (await http.post("/api/v1/session", json={"token": made.text})).is_success
        else:
            headers = {"authorization": f"Bearer {made.text}"}
        async with http.stream("GET", "/api/v1/rollouts/web/stream", headers=headers) as answer:
            assert answer.status_code == 200
            lines = answer.aiter_lines()
            await next_of(lines, "event: rollout")
            if how == "logout":
                origin = {"origin": address}
                csrf = (await http.get("/api/v1/session")).json()["csrf"]
                out = await http.post("/logout", data={"csrf": csrf}, headers=origin)
                assert out.status_code == 303
            elif how != "time":
                await locked.identity.tokens.revoke(made.token.id, by=OWNER, reason="")
            async with asyncio.timeout(20):
                async for _ in lines:
                    pass
        assert (await http.get("/api/v1/version", headers=headers)).status_code == 401


async def test_a_stream_goes_on_when_another_token_is_revoked(locked):
    text = await locked.token(Role.VIEWER)
    other = await locked.identity.tokens.create("other", (Grant(Role.VIEWER),), by=OWNER, lasting=None)
    async with locked.served() as address, httpx.AsyncClient(base_url=address, timeout=20) as http:
        headers = {"authorization": f"Bearer {text}"}
        async with http.stream("GET", "/api/v1/rollouts/web/stream", headers=headers) as answer:
            lines = answer.aiter_lines()
            await next_of(lines, "event: rollout")
            await locked.identity.tokens.revoke(other.token.id, by=OWNER, reason="")
            await next_of(lines, ":")


def test_a_port_that_is_taken_is_told_with_who_has_it():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(Invalid, match=rf"127\.0\.0\.1:{port}: .*\(pid \d+\) listens there") as caught:
            bound("127.0.0.1", port)
        assert "--listen off" in caught.value.remedy


@pytest.mark.parametrize(
    ("listen", "refused"),
    [
        ("127.0.0.1:7007", False),
        ("localhost:1", False),
        ("[::1]:7007", False),
        ("127.0.0.1:0", False),
        ("off", False),
        (7007, False),
        (":7007", True),
        ("0.0.0.0:7007", True),
        ("192.0.2.1:7007", True),
        ("[::]:7007", True),
        ("[::]:0", True),
    ],
)
def test_without_tls_only_this_machine_can_connect(listen, refused):
    if refused:
        with pytest.raises(ValueError, match="open to other machines"):
            ApiSpec(listen=listen)
        ApiSpec(listen=listen, tls={"certificate": "a", "key": "b"})
    else:
        ApiSpec(listen=listen)


# -- second persons --------------------------------------------------------------------------------


async def test_the_last_admin_is_revoked_by_two_persons(locked):
    text = await locked.token(Role.ADMIN, by=ANNA)
    approver = await locked.token(Role.APPROVER, by=OWNER)
    accomplice = await locked.token(Role.APPROVER, by=ANNA)
    name = text.split("_")[1]
    async with locked.http(text) as http, locked.http(approver) as second, locked.http(accomplice) as own:
        revoke = f"/api/v1/tokens/{name}/revoke"
        asked = await http.post(revoke, json={"reason": "no longer needed"})
        assert (asked.status_code, asked.json()["code"]) == (409, "needs_second_person")
        (waiting,) = (await second.get("/api/v1/approvals")).json()
        assert waiting["id"] in asked.json()["remedy"]
        place = f"/api/v1/approvals/{waiting['id']}"
        assert (await http.post(f"{place}/approve", json={})).status_code == 403
        assert (await own.post(f"{place}/approve", json={})).status_code == 403, "a token of the same person"
        assert (await http.post(revoke, json={})).status_code == 409
        assert (await second.post(f"{place}/approve", json={"reason": "agreed"})).json()[
            "state"
        ] == "approved"
        assert (await http.post(revoke, json={})).json()["state"] == "revoked"
        assert (await second.get(place)).json()["state"] == "used"
        assert (await http.get("/api/v1/version")).status_code == 401
    told = [
        record.action for record in locked.log.newest(100, lambda one: one.action.startswith("approval."))
    ]
    assert {"approval.ask", "approval.approve", "approval.use"} <= set(told)


async def test_an_approval_is_refused_taken_back_and_runs_out(locked):
    text = await locked.token(Role.ADMIN, by=ANNA)
    name = text.split("_")[1]
    async with locked.http(text) as http, locked.http(await locked.token(Role.OPERATOR)) as operator:
        for move in ("taken back", "runs out"):
            assert (await http.post(f"/api/v1/tokens/{name}/revoke", json={})).status_code == 409
            waiting = (await http.get("/api/v1/approvals")).json()[-1]
            place = f"/api/v1/approvals/{waiting['id']}"
            assert (await operator.post(f"{place}/refuse", json={})).status_code == 403
            if move == "taken back":
                assert (await http.post(f"{place}/refuse", json={})).json()["state"] == "refused"
            else:
                locked.moved += timedelta(minutes=15)
                assert (await http.get(place)).json()["state"] == "expired"
                assert (await http.post(f"{place}/refuse", json={})).status_code == 409
        assert (await http.get("/api/v1/approvals/nobody")).status_code == 404
