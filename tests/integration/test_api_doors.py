"""Every route of the whole application, asked by everybody: its door alone says who passes."""

from __future__ import annotations

import re
from datetime import timedelta

import httpx
import pytest
from tests.integration.locked import OWNER, Locked

from phoenix_orch.api.door_walk import Way, ways
from phoenix_orch.orchestrator.api_spec import ApiSpec
from phoenix_orch.security.rights import EMBEDDED, Grant, Kind, Principal, Role, allows

OPEN = {
    "GET /": "leads to the console",
    "GET /console/static/{digest}/{name}": "files of the wheel",
    "GET /healthz/live": "a supervisor asks",
    "GET /healthz/ready": "a supervisor asks",
    "GET /healthz/startup": "a supervisor asks",
    "GET /login": "asks who one is",
    "POST /login": "asks who one is",
    "GET /login/code": "asks who one is",
    "GET /login/oidc": "asks who one is",
    "GET /login/oidc/callback": "asks who one is",
    "POST /logout": "ends what the cookie names",
    "POST /api/v1/session": "asks who one is",
}
"""What needs no right, and why. Whoever adds a route here has to mean it."""
GRANTS = {
    "viewer": Grant(Role.VIEWER),
    "operator": Grant(Role.OPERATOR),
    "approver": Grant(Role.APPROVER),
    "admin": Grant(Role.ADMIN),
    "operator here": Grant(Role.OPERATOR, EMBEDDED),
    "admin here": Grant(Role.ADMIN, EMBEDDED),
    "admin elsewhere": Grant(Role.ADMIN, "elsewhere"),
}


@pytest.fixture
def locked(tmp_path):
    oidc = {"issuer": "http://127.0.0.1:1", "clientId": "phoenix"}
    made = Locked(tmp_path / "d", ApiSpec.model_validate({"oidc": oidc}))
    made.app.state.rates = None  # they are tried elsewhere, and here everybody asks often
    return made


def test_every_route_has_exactly_one_door(locked):
    found = ways(locked.app)
    assert len(found) > 50
    for way in found:
        name = f"{way.method} {way.path}"
        assert len(way.doors) + way.open == 1, f"{name} has {len(way.doors)} doors"
        assert way.open == (name in OPEN), f"{name} is open, or is not any more"


def test_what_changes_something_takes_more_than_the_right_to_read(locked):
    readers = {
        f"{way.method} {way.path}"
        for way in ways(locked.app)
        if way.method != "GET" and way.doors and way.doors[0].right.value == "read"
    }
    assert readers == {"POST /api/v1/login-codes", "POST /api/v1/session/end"}, "they are about oneself"


async def ask(http: httpx.AsyncClient, way: Way) -> httpx.Response:
    path = re.sub(r"\{number\}", "1", way.path)
    path = re.sub(r"\{\w+\}", "nobody", path)
    form = way.path.startswith(("/console", "/log"))
    body = {} if way.method == "GET" else {"data": {"csrf": ""}} if form else {"json": {}}
    return await http.request(way.method, path, **body)


def turned_away(answer: httpx.Response) -> int | None:
    """401, or 403; None for whoever has passed the door."""
    if answer.status_code == 303 and answer.headers["location"].startswith("/login?"):
        return 401
    return answer.status_code if answer.status_code in (401, 403) else None


@pytest.mark.parametrize("name", GRANTS)
async def test_a_right_opens_its_doors_and_no_other(locked, name):
    grant = GRANTS[name]
    made = await locked.identity.tokens.create(name.replace(" ", "-"), (grant,), by=OWNER, lasting=None)
    principal = Principal(name, Kind.TOKEN, (grant,))
    async with locked.http(made.text) as http:
        for way in ways(locked.app):
            if way.open:
                continue
            (door,) = way.doors
            may = allows(principal, door.right, door.namespace)
            if may and way.streams and "{" not in way.path:
                continue  # it goes on for ever
            answer = await ask(http, way)
            csrf = way.path.startswith("/console") and way.method == "POST"  # forms prove more than a right
            expected = None if may and not csrf else 403
            assert turned_away(answer) == expected, f"{name}: {way.method} {way.path}: {answer.text}"
    await locked.app.state.live.aclose()


async def texts_that_let_nobody_in(locked, tmp_path) -> dict[str, str | None]:
    grants = (Grant(Role.ADMIN),)
    revoked = await locked.identity.tokens.create("revoked", grants, by=OWNER, lasting=None)
    await locked.identity.tokens.create("kept", grants, by=OWNER, lasting=None)
    await locked.identity.tokens.revoke(revoked.token.id, by=OWNER, reason="")
    expired = await locked.identity.tokens.create("expired", grants, by=OWNER, lasting=timedelta(seconds=1))
    locked.moved = timedelta(seconds=2)
    foreign = await Locked(tmp_path / "other").token(Role.ADMIN)
    return {
        "nothing": None,
        "revoked": revoked.text,
        "expired": expired.text,
        "foreign": foreign,
        "id alone": expired.text[:15],
        "digest": f"phx_{revoked.token.id}_{revoked.token.digest}",
        "other form": "eyJhbGciOiJub25lIn0.e30.",
    }


async def test_whoever_is_not_known_passes_no_door(locked, tmp_path):
    for kind, text in (await texts_that_let_nobody_in(locked, tmp_path)).items():
        async with locked.http(text) as http:
            for way in ways(locked.app):
                if way.open:
                    continue
                answer = await ask(http, way)
                assert turned_away(answer) == 401, f"{kind}: {way.method} {way.path}: {answer.text}"
                if answer.status_code == 401:
                    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert locked.operations.calls == []


async def test_open_doors_tell_nothing(locked):
    async with locked.http() as http:
        for way in ways(locked.app):
            if way.open:
                answer = await ask(http, way)
                assert answer.status_code < 500 or way.path.startswith(("/healthz/", "/login/oidc"))
                assert "rollout" not in answer.text.replace("/console/rollouts", "")
