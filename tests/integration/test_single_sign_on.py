"""Whole logins at an OpenID Connect server of others, and its tokens as bearers'."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from tests.integration.locked import Locked
from tests.integration.oidc_server import let_in, providing

from phoenix_orch.api.single_sign_on import CALLBACK
from phoenix_orch.orchestrator.api_spec import ApiSpec
from phoenix_orch.security.oidc import challenge
from phoenix_orch.security.rights import Role

VERIFIER = "v" * 43


@pytest.fixture(scope="module")
def issuer():
    with providing() as found:
        yield found


def locked_by(issuer: str, tmp_path) -> Locked:
    secret = tmp_path / "secret"
    secret.write_text("never-told\n")
    oidc = {
        "issuer": issuer,
        "clientId": "phoenix",
        "clientSecretFile": str(secret),
        "grants": [{"value": "releases", "role": "operator"}],
    }
    return Locked(tmp_path / "d", ApiSpec.model_validate({"oidc": oidc}))


@pytest.fixture
def locked(issuer, tmp_path):
    return locked_by(issuer, tmp_path)


async def log_in(http: httpx.AsyncClient, subject: str) -> httpx.Response:
    away = await http.get("/login/oidc?next=/console")
    assert away.status_code == 303, away.text
    return await http.get(let_in(away.headers["location"], subject))


async def test_somebody_logs_in_and_has_what_their_group_has(locked):
    async with locked.http() as http:
        assert "/login/oidc?next=/" in (await http.get("/login")).text
        back = await log_in(http, "4711")
        assert (back.status_code, back.headers["location"]) == (303, "/console")
        who = (await http.get("/api/v1/identity")).json()
        assert who["name"] == "ada (4711)"
        assert who["grants"] == [{"role": "operator", "namespace": "*"}]
        assert (await http.get("/console")).status_code == 200
        assert not any(name.endswith("-login") for name in http.cookies)


async def test_whoever_is_in_no_group_is_known_and_may_do_nothing(locked):
    async with locked.http() as http:
        assert (await log_in(http, "4712")).status_code == 303
        answer = await http.get("/api/v1/rollouts")
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert "4712" in answer.json()["detail"]


async def test_an_answer_counts_once_and_in_the_browser_that_asked(locked):
    async with locked.http() as http, locked.http() as other:
        away = await http.get("/login/oidc")
        back = let_in(away.headers["location"], "4711")
        assert (await other.get(back)).status_code == 401, "an answer that was slipped to somebody else"
        assert (await other.get("/api/v1/identity")).status_code == 401
        cookies = dict(http.cookies)
        assert (await http.get(back)).status_code == 303
        http.cookies.update(cookies)
        assert (await http.get(back)).status_code == 401


@pytest.mark.parametrize("query", ["", "?error=access_denied&state=x", "?code=x&state=guessed"])
async def test_an_answer_to_no_login_lets_nobody_in(locked, query):
    async with locked.http() as http:
        answer = await http.get(f"{CALLBACK}{query}")
        assert answer.status_code == 401
        assert "log in" in answer.text.lower()
        assert "guessed" not in answer.text


@pytest.mark.parametrize("after", ["https://other.example", "//other.example", "/\\other.example"])
async def test_a_login_ends_on_a_page_of_this_phoenix(locked, after):
    async with locked.http() as http:
        away = await http.get("/login/oidc", params={"next": after})
        assert (await http.get(let_in(away.headers["location"], "4711"))).headers["location"] == "/"


async def test_what_a_provider_says_of_errors_is_shown_to_nobody(locked):
    async with locked.http() as http:
        away = await http.get("/login/oidc")
        state = parse_qs(urlsplit(away.headers["location"]).query)["state"][0]
        said = {"state": state, "error": "access_denied", "error_description": "<b>canary</b>"}
        answer = await http.get(CALLBACK, params=said)
        assert answer.status_code == 401
        assert "let nobody in" in answer.text
        assert "canary" not in answer.text


async def test_the_state_is_kept_from_pages_and_from_other_sites(locked):
    async with locked.http() as http:
        cookie = (await http.get("/login/oidc")).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    async with locked.http(scheme="https") as http:
        cookie = (await http.get("/login/oidc")).headers["set-cookie"].lower()
    assert cookie.startswith("__host-")
    assert "; secure" in cookie


async def token_of(issuer: str, subject: str, client: str) -> str:
    """An ID token that a program got without Phoenix."""
    asked = {
        "response_type": "code",
        "client_id": client,
        "redirect_uri": "http://127.0.0.1:1/",
        "scope": "openid profile",
        "code_challenge": challenge(VERIFIER),
        "code_challenge_method": "S256",
    }
    back = let_in(f"{issuer}/oauth2/authorize?{httpx.QueryParams(asked)}", subject)
    form = {
        "grant_type": "authorization_code",
        "code": parse_qs(urlsplit(back).query)["code"][0],
        "redirect_uri": asked["redirect_uri"],
        "client_id": client,
        "client_secret": "x",
        "code_verifier": VERIFIER,
    }
    async with httpx.AsyncClient(timeout=20) as http:
        answer = await http.post(f"{issuer}/oauth2/token", data=form)
        return answer.json()["id_token"]


async def test_a_token_for_this_client_lets_in_and_one_for_another_does_not(locked, issuer):
    async with locked.http(await token_of(issuer, "4711", "phoenix")) as http:
        assert (await http.get("/api/v1/identity")).json()["kind"] == "oidc"
        assert (await http.get("/api/v1/tokens")).status_code == 403
        refused = await http.post("/api/v1/login-codes")
        assert refused.status_code == 403, "minutes would become hours"
    foreign = await token_of(issuer, "4711", "shop")
    async with locked.http(foreign) as http:
        answer = await http.get("/api/v1/identity")
        assert answer.status_code == 401
        assert "another audience" in answer.json()["detail"]
        assert foreign[:20] not in answer.text


async def test_tokens_of_phoenix_let_in_while_the_provider_is_away(tmp_path):
    locked = locked_by("http://127.0.0.1:1", tmp_path)
    async with locked.http() as http:
        answer = await http.get("/login/oidc")
        assert answer.status_code == 503
        assert 'name="token"' in answer.text
    async with locked.http("eyJhbGciOiJSUzI1NiJ9.e30.x") as http:
        assert (await http.get("/api/v1/version")).status_code == 503
    async with locked.http(await locked.token(Role.VIEWER)) as http:
        assert (await http.get("/api/v1/version")).status_code == 200
