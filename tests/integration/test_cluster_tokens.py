"""API tokens in a cluster: made at one replica, good at every one, and gone at all of them when revoked."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cluster.certificates import Authority
from tests.integration.cluster_door import NAMESPACE, ClusterDoor, call, connected, two_doors
from tests.integration.test_api_tls import seen_by, trusting, written

from phoenix_orch.api import tls as api_tls
from phoenix_orch.kernel.errors import Retryable, Terminal
from phoenix_orch.orchestrator.cluster.tokens import COPY_COUNTS, LEFT_OUT, SharedTokens
from phoenix_orch.runtime.valkey_server import ServerInfo, ValkeyServer
from phoenix_orch.security import tokens
from phoenix_orch.security.rights import Grant, Role
from phoenix_orch.security.tokens import Token, Tokens

pytestmark = pytest.mark.anyio
ADMIN, VIEWER = "ann:read,operate,approve,administer", "vic:read"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
STREAM = "/api/v1/rollouts/web/stream"


@pytest.fixture
def doors(
    opened: AsyncExitStack, server: ServerInfo, tmp_path: Path, prefix: str
) -> tuple[ClusterDoor, ClusterDoor]:
    return two_doors(opened, tmp_path, server.url, prefix=prefix)


async def made(door: ClusterDoor, name: str = "ci", role: str = "operator", **more: Any) -> tuple[str, str]:
    """(its text, its id)"""
    answer = await call(door, ADMIN, "tokens", {"name": name, "role": role, **more})
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()["token"], answer.json()["view"]["id"]


async def shown(door: ClusterDoor, name: str) -> dict[str, Any]:
    (found,) = [one for one in (await call(door, ADMIN, "tokens")).json() if one["id"] == name]
    return dict(found)


async def test_a_token_made_at_one_replica_is_good_at_all_of_them_until_it_is_revoked_at_any(
    doors: tuple[ClusterDoor, ClusterDoor], prefix: str
) -> None:
    one, other = doors
    would = await call(one, ADMIN, "tokens", {"name": "ci", "role": "operator", "dryRun": True})
    assert (would.status_code, would.json()["token"]) == (201, "")
    assert (await call(one, VIEWER, "tokens", {"name": "x"})).status_code == 403
    text, name = await made(one)
    for door in doors:
        who = (await call(door, text, "identity")).json()
        assert (who["name"], who["kind"]) == ("ci", "token")
        assert [grant["role"] for grant in who["grants"]] == ["operator"]
        assert (await call(door, text, "tokens")).status_code == 403, "an operator keeps no tokens"
        assert (await call(door, text[:-1] + "_", "identity")).status_code == 401
    found = await shown(other, name)
    assert (found["state"], found["maker"]) == ("valid", "kubernetes:ann")
    assert found["lastUsed"] is not None

    held = {**await one.client.hgetall(f"{prefix}tokens"), **await one.client.hgetall(f"{prefix}tokens:used")}
    assert text.split("_", 2)[2] not in str(held)
    assert json.loads(await one.client.hget(f"{prefix}tokens", name))["digest"]

    assert (await call(other, ADMIN, f"tokens/{name}/revoke", {"dryRun": True})).json()["state"] == "valid"
    gone = await call(other, ADMIN, f"tokens/{name}/revoke", {"reason": "left"})
    assert (gone.status_code, gone.json()["state"]) == (200, "revoked")
    for door in doors:
        assert (await call(door, text, "identity")).status_code == 401
    assert (await call(one, ADMIN, f"tokens/{name}/revoke", {})).status_code == 409
    assert (await call(one, ADMIN, "tokens/nobody/revoke", {})).status_code == 404
    for door, action in ((one, "token.create"), (other, "token.revoke")):
        await door.parts.acts.drain()
        asked, done = [one for one in door.log.newest(100) if one.action == action]
        assert (asked.outcome, done.outcome, done.actor) == ("asked", "done", "ann")
        assert text not in str((asked, done))


async def test_a_token_ends_with_its_time_and_speaks_for_whoever_made_it(
    doors: tuple[ClusterDoor, ClusterDoor],
) -> None:
    one, other = doors
    text, name = await made(one, role="approver", lasting="1h")
    other.moved = timedelta(minutes=59)
    assert (await call(other, text, "identity")).status_code == 200
    other.moved = timedelta(minutes=61)
    assert (await call(other, text, "identity")).status_code == 401
    assert (await shown(other, name))["state"] == "expired"
    asked = await call(one, ADMIN, "approvals", {"action": "keys.rotate", "target": "keys/x"})
    assert (asked.status_code, asked.json()["code"]) == (409, "needs_second_person")
    (waiting,) = (await call(one, ADMIN, "approvals")).json()
    assert (await call(one, text, f"approvals/{waiting['id']}/approve", {})).status_code == 403
    assert (await call(one, "ben:read,approve", f"approvals/{waiting['id']}/approve", {})).status_code == 200


@pytest.mark.parametrize(("namespaces", "status"), [([NAMESPACE], 201), (["*"], 201), (["elsewhere"], 422)])
async def test_a_token_is_for_the_namespace_that_is_served(
    doors: tuple[ClusterDoor, ClusterDoor], namespaces: list[str], status: int
) -> None:
    body = {"name": "ci", "role": "admin", "namespaces": namespaces}
    answer = await call(doors[0], ADMIN, "tokens", body)
    assert answer.status_code == status, answer.text
    if status == 201:
        assert (await call(doors[1], answer.json()["token"], "tokens")).status_code == 200
    else:
        assert NAMESPACE in answer.json()["detail"]
        assert (await call(doors[0], ADMIN, "tokens")).json() == []


async def test_a_browser_logs_in_with_a_token_and_its_session_ends_with_that(
    doors: tuple[ClusterDoor, ClusterDoor], prefix: str
) -> None:
    one, other = doors
    text, name = await made(one, role="viewer")
    same = {"sec-fetch-site": "same-origin"}
    async with one.http() as first:
        assert (await first.post("/login", data={"token": text + "x"}, headers=same)).status_code == 401
        assert (await first.post("/login", data={"token": text}, headers=same)).status_code == 303
        (key,) = [one async for one in one.client.scan_iter(f"{prefix}session:*")]
        assert text.split("_", 2)[2] not in str(await one.client.get(key))
        async with other.http(cookies=first.cookies) as second:
            who = (await second.get("/api/v1/identity")).json()
            assert (who["name"], who["kind"]) == ("ci", "token")
            assert (await call(one, ADMIN, f"tokens/{name}/revoke", {})).status_code == 200
            assert (await second.get("/api/v1/identity")).status_code == 401


# -- streams -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["token", "session", "logout"])
async def test_a_stream_ends_when_what_let_it_in_is_ended_at_another_replica(
    doors: tuple[ClusterDoor, ClusterDoor], how: str
) -> None:
    one, other = doors
    text, name = await made(one, role="viewer")
    kept, _ = await made(one, name="kept", role="viewer")
    headers: dict[str, str] = {} if how != "token" else {"authorization": f"Bearer {text}"}
    async with (
        one.served() as here,
        other.served() as there,
        httpx.AsyncClient(base_url=here, timeout=20) as http,
    ):
        if how != "token":
            same = {"sec-fetch-site": "same-origin"}
            assert (await http.post("/login", data={"token": text}, headers=same)).status_code == 303
        spared = {"authorization": f"Bearer {kept}"}
        async with (
            http.stream("GET", STREAM, headers=headers) as stream,
            httpx.AsyncClient(base_url=here, timeout=20) as others,
            others.stream("GET", STREAM, headers=spared) as another,
        ):
            assert (stream.status_code, another.status_code) == (200, 200)
            lines, rest = stream.aiter_lines(), another.aiter_lines()
            assert await anext(lines)
            if how == "logout":
                (cookie,) = http.cookies.jar
                named = f"phoenix-{httpx.URL(there).port}={cookie.value}"
                async with httpx.AsyncClient(base_url=there, timeout=20) as elsewhere:
                    said = {"cookie": named, "sec-fetch-site": "same-origin"}
                    assert (await elsewhere.post("/logout", headers=said)).status_code == 303
            else:
                assert (await call(other, ADMIN, f"tokens/{name}/revoke", {})).status_code == 200
            async with asyncio.timeout(20):
                async for _ in lines:
                    pass
            assert await anext(rest), "another's goes on"
        assert (await http.get("/api/v1/identity", headers=headers)).status_code == 401


async def test_streams_go_on_while_the_store_is_away(
    opened: AsyncExitStack, tmp_path: Path, prefix: str
) -> None:
    keeper = ValkeyServer(tmp_path / "valkey")
    opened.push_async_callback(keeper.stop)
    door = ClusterDoor(opened, tmp_path / "one", (await keeper.ensure()).url, prefix=prefix)
    text, _ = await made(door, role="operator")
    async with door.served() as here, httpx.AsyncClient(base_url=here, timeout=20) as http:
        http.headers["authorization"] = f"Bearer {text}"
        async with http.stream("GET", STREAM) as stream:
            lines = stream.aiter_lines()
            assert await anext(lines)
            await keeper.stop()
            ends = door.app.state.ends
            with pytest.raises(Retryable):
                await ends.look()
            # an abort waits for no store: the token counts as it was
            abort = {"kind": "abort", "reason": "enough"}
            assert (await http.post("/api/v1/rollouts/web/commands", json=abort)).status_code == 202
            assert (await http.get("/api/v1/tokens")).status_code == 403
            http.headers["authorization"] = f"Bearer {text[:-2]}__"
            assert (await http.get("/api/v1/identity")).status_code == 401
            unknown = tokens.mint("x", (), maker="", now=NOW, lasting=None).text
            http.headers["authorization"] = f"Bearer {unknown}"
            assert (await http.get("/api/v1/identity")).status_code == 503
            async with asyncio.timeout(20):
                assert await anext(lines) is not None


async def test_each_replica_has_a_new_certificate_when_its_files_change(
    doors: tuple[ClusterDoor, ClusterDoor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As kubelets change them: each replica at its own time, and streams go on."""
    monkeypatch.setattr(api_tls, "LOOK", 0.02)
    authority = Authority(tmp_path)
    text, _ = await made(doors[0], role="viewer")
    headers = {"authorization": f"Bearer {text}"}
    first, second = authority.server("127.0.0.1"), authority.server("127.0.0.1")
    for door, name in zip(doors, ("one", "other"), strict=True):
        files = written(first, tmp_path, name)
        context = trusting(authority)
        async with (
            door.served((files.certificate, files.key)) as address,
            httpx.AsyncClient(verify=context, timeout=20) as http,
            http.stream("GET", f"{address}{STREAM}", headers=headers) as stream,
        ):
            lines = stream.aiter_lines()
            assert await anext(lines)
            before, _ = await asyncio.to_thread(seen_by, address, authority)
            files.certificate.write_bytes(second.certificate)
            files.key.write_bytes(second.key)
            async with asyncio.timeout(30):
                while (await asyncio.to_thread(seen_by, address, authority))[0] == before:
                    await asyncio.sleep(0.02)
            async with asyncio.timeout(30):
                assert await anext(lines) is not None


# -- the book ----------------------------------------------------------------------------------------


def a_token(name: str) -> Token:
    return tokens.mint(name, (Grant(Role.VIEWER),), maker="somebody", now=NOW, lasting=None).token


def adding(token: Token) -> Any:
    return lambda held: (Tokens(tokens={**held.tokens, token.id: token}), None)


async def test_no_token_is_lost_where_many_are_made_at_once(
    opened: AsyncExitStack, server: ServerInfo, prefix: str
) -> None:
    books = [SharedTokens(connected(opened, server.url), prefix=prefix) for _ in range(4)]
    made = [a_token(f"t{number}") for number in range(12)]
    await asyncio.gather(*(books[number % 4].change(adding(one)) for number, one in enumerate(made)))
    assert (await books[0].read()).tokens == {one.id: one for one in made}
    await books[1].change(lambda held: (Tokens(tokens={made[0].id: held.tokens[made[0].id]}), None))
    assert list((await books[2].read()).tokens) == [made[0].id]
    assert await books[3].one(made[1].id) is None


async def test_while_the_store_is_away_the_copy_counts_for_an_hour(
    opened: AsyncExitStack, tmp_path: Path, prefix: str
) -> None:
    keeper = ValkeyServer(tmp_path / "valkey")
    opened.push_async_callback(keeper.stop)
    now = [0.0]
    client = connected(opened, (await keeper.ensure()).url)
    book = SharedTokens(client, prefix=prefix, clock=lambda: now[0])
    token = a_token("ci")
    await SharedTokens(client, prefix=prefix).change(adding(token))
    await keeper.stop()
    with pytest.raises(Retryable):
        await book.one(token.id)
    await keeper.ensure()
    now[0] += LEFT_OUT
    await book.refresh()
    await keeper.stop()
    now[0] += 1
    assert await book.one(token.id) == token
    with pytest.raises(Retryable):
        await book.one(a_token("another").id)
    now[0] += COPY_COUNTS.total_seconds()
    with pytest.raises(Retryable):
        await book.one(token.id)
    await keeper.ensure()
    await book.refresh()
    assert await book.one(token.id) == token


async def test_the_copy_hears_of_what_others_revoke(
    opened: AsyncExitStack, server: ServerInfo, prefix: str
) -> None:
    client = connected(opened, server.url)
    book, other = (SharedTokens(client, prefix=prefix) for _ in range(2))
    token = a_token("ci")
    await book.change(adding(token))
    assert (await other.refresh())[token.id].revoked is None
    await book.change(adding(token.model_copy(update={"revoked": NOW})))
    assert (await other.refresh())[token.id].revoked == NOW


async def test_what_somebody_else_wrote_there_lets_nobody_in(
    opened: AsyncExitStack, server: ServerInfo, prefix: str
) -> None:
    client = connected(opened, server.url)
    book = SharedTokens(client, prefix=prefix)
    await client.hset(f"{prefix}tokens", "aaaaaaaaaa", '{"secret": 1}')
    for reading in (book.read(), book.one("aaaaaaaaaa"), book.refresh()):
        with pytest.raises(Terminal) as told:
            await reading
        assert "secret" not in str(told.value)
    assert await book.one("version") is None
