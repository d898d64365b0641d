"""Logins by way of an OpenID Connect server in a cluster: begun at one replica, finished at another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.cluster_door import NAMESPACE, ClusterDoor, connected, two_doors
from tests.integration.oidc_server import let_in, providing
from tests.integration.test_single_sign_on import token_of

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.orchestrator.cluster.file import load
from phoenix_orch.orchestrator.cluster.logins import SharedLogins
from phoenix_orch.runtime.valkey_server import ServerInfo
from phoenix_orch.security.oidc_logins import LOGIN, MOST_LOGINS, Login

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with providing() as found:
        yield found


def api_of(issuer: str, tmp_path: Path, *grants: dict[str, Any]) -> dict[str, Any]:
    secret = tmp_path / "secret"
    secret.write_text("never-told\n")
    found = list(grants) or [{"value": "releases", "role": "operator", "namespaces": [NAMESPACE]}]
    return {
        "oidc": {
            "issuer": issuer,
            "clientId": "phoenix",
            "clientSecretFile": str(secret),
            "grants": found,
        }
    }


@pytest.fixture
def doors(
    opened: AsyncExitStack, server: ServerInfo, issuer: str, tmp_path: Path, prefix: str
) -> tuple[ClusterDoor, ClusterDoor]:
    return two_doors(opened, tmp_path, server.url, api_of(issuer, tmp_path), prefix=prefix)


async def back_at(issuer_page: httpx.Response) -> str:
    assert issuer_page.status_code == 303, issuer_page.text
    return let_in(issuer_page.headers["location"], "4711")


async def log_in(door: ClusterDoor) -> httpx.Cookies:
    async with door.http() as http:
        back = await back_at(await http.get("/login/oidc"))
        assert (await http.get(back)).status_code == 303
        return http.cookies


async def test_a_login_begun_at_one_replica_is_finished_at_another(
    doors: tuple[ClusterDoor, ClusterDoor],
) -> None:
    one, other = doors
    async with one.http() as first, other.http(cookies=first.cookies) as second:
        assert "/login/oidc?next=/" in (await first.get("/login")).text
        back = await back_at(await first.get("/login/oidc?next=/console"))
        assert back.startswith("https://phoenix.example:7007/login/oidc/callback?")
        begun = httpx.Cookies(first.cookies)
        came = await second.get(back)
        assert (came.status_code, came.headers["location"]) == (303, "/console")
        for http in (first, second):
            who = (await http.get("/api/v1/identity")).json()
            assert (who["name"], who["kind"]) == ("ada (4711)", "oidc")
            assert [one["role"] for one in who["grants"]] == ["operator"]
            assert (await http.get("/api/v1/rollouts")).status_code == 200
        word = await second.post("/api/v1/rollouts/shop/commands", json={"kind": "abort"})
        assert word.status_code == 403, "a page from elsewhere"
        # replayed, with all that the browser had then
        async with one.http(cookies=begun) as again, other.http(cookies=begun) as also:
            assert (await again.get(back)).status_code == 401
            assert (await also.get(back)).status_code == 401
        same = {"sec-fetch-site": "same-origin"}
        assert (await first.post("/logout", headers=same)).status_code == 303
    async with other.http(cookies=came.cookies) as http:
        assert (await http.get("/api/v1/identity")).status_code == 401


async def test_an_answer_counts_in_the_browser_that_asked(doors: tuple[ClusterDoor, ClusterDoor]) -> None:
    one, other = doors
    async with one.http() as first, other.http() as stranger, other.http(cookies=first.cookies) as second:
        back = await back_at(await first.get("/login/oidc"))
        assert (await stranger.get(back)).status_code == 401
        assert (await second.get(back)).status_code == 303, "whoever else tried has not used it up"


async def test_of_two_replicas_that_are_brought_one_answer_one_takes_it(
    doors: tuple[ClusterDoor, ClusterDoor],
) -> None:
    one, other = doors
    async with one.http() as first:
        back = await back_at(await first.get("/login/oidc"))
        begun = httpx.Cookies(first.cookies)

        async def bring(door: ClusterDoor) -> int:
            async with door.http(cookies=httpx.Cookies(begun)) as http:
                return (await http.get(back)).status_code

        statuses = await asyncio.gather(*(bring(door) for door in (one, other) * 4))
        assert sorted(statuses) == [303] + [401] * 7


async def test_a_login_that_takes_too_long_lets_nobody_in(doors: tuple[ClusterDoor, ClusterDoor]) -> None:
    one, other = doors
    async with one.http() as first, other.http(cookies=first.cookies) as second:
        back = await back_at(await first.get("/login/oidc"))
        other.moved = LOGIN + timedelta(seconds=1)
        assert (await second.get(back)).status_code == 401


async def test_nothing_that_lets_in_stands_in_the_store(
    doors: tuple[ClusterDoor, ClusterDoor], prefix: str
) -> None:
    one, _ = doors
    async with one.http() as http:
        away = await http.get("/login/oidc")
        state = httpx.URL(away.headers["location"]).params["state"]
        held = await one.client.hgetall(f"{prefix}logins")
        assert len(held) == 1
        assert state not in str(held)
        assert 0 < await one.client.pttl(f"{prefix}logins") <= LOGIN / timedelta(milliseconds=1)
        assert (await http.get(let_in(away.headers["location"], "4711"))).status_code == 303
        assert await one.client.exists(f"{prefix}logins", f"{prefix}logins:until") == 0
        (cookie,) = http.cookies.jar
        (key,) = [name async for name in one.client.scan_iter(f"{prefix}session:*")]
        kept = (await one.client.get(key)).decode()
        assert cookie.value not in key.decode() + kept
        assert "never-told" not in kept
        assert json.loads(kept)["user"]["username"] == "ada (4711)"


@pytest.mark.parametrize(
    ("namespaces", "status"), [([NAMESPACE], 200), (["*"], 200), (["default"], 403), (["elsewhere"], 403)]
)
async def test_a_role_holds_where_the_claim_gives_it(
    opened: AsyncExitStack,
    server: ServerInfo,
    issuer: str,
    tmp_path: Path,
    prefix: str,
    namespaces: list[str],
    status: int,
) -> None:
    api = api_of(issuer, tmp_path, {"value": "releases", "role": "viewer", "namespaces": namespaces})
    door = ClusterDoor(opened, tmp_path / "one", server.url, api, prefix=prefix)
    async with door.http(cookies=await log_in(door)) as http:
        assert (await http.get("/api/v1/rollouts")).status_code == status
    async with door.http(await token_of(issuer, "4711", "phoenix")) as http:
        assert (await http.get("/api/v1/rollouts")).status_code == status


async def test_a_session_counts_as_long_as_the_configuration_says_the_same(
    opened: AsyncExitStack, server: ServerInfo, issuer: str, tmp_path: Path, prefix: str
) -> None:
    one = ClusterDoor(opened, tmp_path / "one", server.url, api_of(issuer, tmp_path), prefix=prefix)
    cookies = await log_in(one)
    for name, api, status in (
        ("same", api_of(issuer, tmp_path), 200),
        ("fewer", api_of(issuer, tmp_path, {"value": "others", "role": "operator"}), 401),
        ("none", {}, 401),
    ):
        door = ClusterDoor(opened, tmp_path / name, server.url, api, prefix=prefix)
        async with door.http(cookies=cookies) as http:
            assert (await http.get("/api/v1/rollouts")).status_code == status, name


async def test_tokens_of_the_cluster_let_in_beside_those_of_the_provider(
    doors: tuple[ClusterDoor, ClusterDoor], issuer: str
) -> None:
    for door in doors:
        async with door.http("ann:read") as http:
            assert (await http.get("/api/v1/identity")).json()["kind"] == "kubernetes"
        async with door.http(await token_of(issuer, "4711", "phoenix")) as http:
            assert (await http.get("/api/v1/identity")).json()["kind"] == "oidc"
        foreign = await token_of(issuer, "4711", "shop")
        async with door.http(foreign) as http:
            answer = await http.get("/api/v1/identity")
            assert answer.status_code == 401
            assert foreign[:20] not in answer.text
        async with door.http("e30.e30.x") as http:
            assert (await http.get("/api/v1/identity")).status_code == 401
    async with doors[0].http() as http:
        headers = {"sec-fetch-site": "same-origin"}
        came = await http.post("/login", data={"token": "ann:read"}, headers=headers)
        assert came.status_code == 303
        async with doors[1].http(cookies=http.cookies) as other:
            assert (await other.get("/api/v1/identity")).json()["name"] == "ann"


async def test_nobody_gets_a_second_name_by_a_second_way_in(
    doors: tuple[ClusterDoor, ClusterDoor], issuer: str
) -> None:
    """The API server may know the same provider; a person is to be one all the same."""
    token = await token_of(issuer, "4711", "phoenix")
    async with doors[0].http() as http:
        headers = {"sec-fetch-site": "same-origin"}
        answer = await http.post("/login", data={"token": token}, headers=headers)
        assert answer.status_code == 401
        assert token[:20] not in answer.text


async def test_without_the_store_nobody_logs_in_and_a_token_lets_in_all_the_same(
    opened: AsyncExitStack, issuer: str, tmp_path: Path
) -> None:
    door = ClusterDoor(opened, tmp_path / "one", "redis://127.0.0.1:1/0", api_of(issuer, tmp_path))
    async with door.http() as http:
        answer = await http.get("/login/oidc")
        assert answer.status_code == 503
        assert 'name="token"' in answer.text
    async with door.http(await token_of(issuer, "4711", "phoenix")) as http:
        assert (await http.get("/api/v1/identity")).status_code == 200


def login(until: Any) -> Login:
    return Login("nonce", "verifier", "https://phoenix.example/", "/", until)


async def test_logins_under_way_are_bounded_and_the_oldest_makes_room(
    doors: tuple[ClusterDoor, ClusterDoor], prefix: str
) -> None:
    door, _ = doors
    logins, begun = door.parts.logins, door.now() + LOGIN
    for number in range(MOST_LOGINS + 5):
        await logins.keep(f"{number}", login(begun + timedelta(milliseconds=number)))
    assert await door.client.hlen(f"{prefix}logins") == MOST_LOGINS
    assert await door.client.zcard(f"{prefix}logins:until") == MOST_LOGINS
    assert await logins.take("4") is None
    assert await logins.take("5") == login(begun + timedelta(milliseconds=5))
    assert await logins.take("5") is None
    await logins.keep("late", login(begun + 2 * LOGIN))
    assert await door.client.hlen(f"{prefix}logins") == 1, "those that are over are gone"


async def test_a_store_that_is_away_is_told(opened: AsyncExitStack) -> None:
    logins = SharedLogins(connected(opened, "redis://127.0.0.1:1/0"), prefix="phoenix:")
    with pytest.raises(Retryable):
        await logins.take("x")


def test_files_of_the_provider_are_taken_from_where_the_configuration_is(tmp_path: Path) -> None:
    file = tmp_path / "phoenix.yaml"
    text = "api: {oidc: {issuer: 'https://p.example', clientId: phoenix, clientSecretFile: ../oidc/secret}}"
    file.write_text(text)
    oidc = load(file).api.oidc
    assert oidc is not None
    assert oidc.client_secret_file == str((tmp_path.parent / "oidc/secret").resolve())
