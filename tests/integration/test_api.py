"""The API and its client over a real unix socket: values, errors, who asks, and the end."""

from __future__ import annotations

import asyncio
import getpass
import json
import socket
import stat
import threading
import time
from datetime import timedelta

import httpx
import pytest
from structlog.testing import capture_logs
from tests.integration.fake_phoenix import NEW, NOW, OLD, FakeOperations, serving

from phoenix_orch.api import server
from phoenix_orch.api.server import create_app, serve
from phoenix_orch.client import Client
from phoenix_orch.client.problems import raise_problem
from phoenix_orch.client.transport import UnixConnection, ask
from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.kernel.errors import (
    BadState,
    Conflict,
    Forbidden,
    Invalid,
    Latched,
    NotFound,
    Outdated,
    PhoenixError,
    Retryable,
    Terminal,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.rollout.status import CommandKind, State


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("d")
    with serving(FakeOperations(), data_dir) as operations:
        operations.data_dir = data_dir
        yield operations


@pytest.fixture
def operations(served):
    served.__init__()
    return served


@pytest.fixture
def client(operations):
    with Client(operations.data_dir) as client:
        yield client


@pytest.fixture
def raw(operations):
    """HTTP without our client."""
    transport = httpx.HTTPTransport(uds=str(operations.data_dir / "phoenix.sock"))
    with httpx.Client(transport=transport, base_url="http://phoenix/api/v1/") as http:
        yield http


def test_what_is_read_comes_through_whole(client, operations):
    view = client.rollout("web")
    assert view == operations.pictures[0]
    assert client.rollouts() == [view]
    assert client.verdict("web").kind is VerdictKind.CONTINUE
    assert [event.reason for event in client.events("web")] == ["Started", "WeightSeen"]
    assert [event.reason for event in client.events("web", limit=1)] == ["WeightSeen"]
    assert [release.number for release in client.history("web", limit=1)] == [2]
    assert [revision.number for revision in client.revisions("web")] == [1, 2]
    assert client.version() == {"version": "0.1.0", "api": "v1"}
    assert client.health()["components"][0] == {"name": "store", "state": "ready"}
    assert client.services() == [client.service("web")]


def test_infinity_survives_in_observations(client, operations):
    (observation,) = client.observations("web", since=NOW - timedelta(hours=1), limit=5)
    assert observation.canary.buckets[-1] == (float("inf"), 1)
    assert operations.asked == [
        ("observations", NOW - timedelta(hours=1), 6)
    ]  # one more: is there a next page?


def test_json_is_camel_case_down_to_the_leaves(raw):
    view = raw.get("rollouts/web").json()
    names = {
        name
        for part in (view, view["seen"], view["verdict"], view["workload"]["instances"][0])
        for name in part
    }
    assert not [name for name in names if "_" in name]
    assert {"timeLeft", "canaryRevision", "observedFor", "readySince"} <= names
    assert set(view["versions"]) == {OLD, NEW}


def test_what_changes_something_names_the_user_the_kernel_names(client, operations):
    me = getpass.getuser()
    client.command("web", CommandKind.PAUSE, reason="lunch")
    client.start("web", version="2", env={"A": "b"}, command=("x", "{port}"), change_cause="why")
    client.undo("web", to_revision=1, reason="why not")
    client.restart("web", dry_run=True)
    client.restart("web")
    config = PhoenixFile.model_validate(
        {"services": {"web": {"command": "a {port}"}}, "routes": {"web": {"service": "web"}}}
    )
    assert [change.target for change in client.apply(config)] == ["rollout/web"]
    wanted = {
        "version": "2",
        "env": {"A": "b"},
        "command": ("x", "{port}"),
        "change_cause": "why",
        "even_if_unattainable": False,
        "override_freeze": False,
    }
    assert operations.calls == [
        ("command", "web", CommandKind.PAUSE, me, "lunch"),
        ("start", "web", wanted, me),
        ("undo", "web", 1, me, "why not"),
        ("restart", "web", me),
        ("apply", config, me),
    ]


def test_dry_runs_change_nothing(client, operations):
    config = PhoenixFile.model_validate({"services": {}})
    client.apply(config, dry_run=True)
    client.start("web", version="2", dry_run=True)
    client.undo("web", dry_run=True)
    assert operations.calls == []


def test_logs_go_on_where_they_ended(client):
    page = client.logs("web", lines=2)
    assert [line.text for line in page.lines] == ["line 2", "line 3"]
    page = client.logs("web", after=page.offsets)
    assert [line.text for line in page.lines] == ["new line"]
    assert page.offsets == {f"web-{OLD}-1": 30}


def test_errors_come_back_as_they_were_raised(client, operations):
    with pytest.raises(NotFound, match="no rollout 'nope'") as caught:
        client.rollout("nope")
    assert caught.value.remedy == "rollouts: web"
    with pytest.raises(BadState, match="cannot resume web"):
        client.command("web", CommandKind.RESUME)
    operations.latched = True
    with pytest.raises(Latched):
        client.start("web", version="2")
    operations.away = True
    with pytest.raises(Retryable, match="store does not answer"):
        client.rollouts()


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (Invalid, 422),
        (NotFound, 404),
        (BadState, 409),
        (Unauthenticated, 401),
        (Forbidden, 403),
        (TooMany, 429),
        (Conflict, 409),
        (Outdated, 412),
        (Latched, 409),
        (Retryable, 503),
        (Unavailable, 503),
        (Terminal, 500),
        (PhoenixError, 500),
    ],
)
def test_every_kind_of_error_has_a_status_and_comes_back(raw, operations, monkeypatch, kind, status):
    async def fail(**_):
        raise kind("what", remedy="do this")

    monkeypatch.setattr(operations, "views", fail)
    answer = raw.get("rollouts")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() | {"title": ""} == {
        "type": f"urn:phoenix-orch:problem:{kind.code}",
        "title": "",
        "status": status,
        "code": kind.code,
        "detail": "what",
        "remedy": "do this",
        "requestId": answer.headers["x-request-id"],
    }
    with pytest.raises(kind) as caught:
        raise_problem(answer.status_code, answer.content)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("method", "path", "body", "words"),
    [
        ("GET", "rollouts/web/events?limit=0", None, "limit: out of range, found '0', allowed: at least 1"),
        ("GET", "rollouts/web/events?limit=x", None, "limit: this has to be a whole number, found 'x'"),
        ("GET", "rollouts/web/observations?since=yesterday", None, "since: "),
        ("GET", "services/web/logs?after=web", None, "after='web' is no instance:offset"),
        (
            "POST",
            "rollouts/web/commands",
            {"kind": "jump"},
            "kind: not one of the allowed words, found 'jump'",
        ),
        ("POST", "rollouts/web/commands", {}, "kind: "),
        ("POST", "rollouts/web/start", {"versoin": "2"}, "versoin: "),
        ("POST", "rollouts/web/start", "{", "not JSON"),
        ("POST", "apply", {"config": {"services": {}, "routes": {"a": {"service": "b"}}}}, "no service 'b'"),
        ("POST", "apply", {"config": {"services": {"a": {"command": "x"}}}}, "config.services.a.command: "),
    ],
)
def test_bad_requests_are_told_apart_and_change_nothing(raw, operations, method, path, body, words):
    text = body if isinstance(body, str) or body is None else json.dumps(body)
    answer = raw.request(method, path, content=text, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert words in answer.json()["detail"]
    assert answer.json()["remedy"]
    assert operations.calls == []


def test_unknown_addresses_and_methods(raw):
    assert raw.get("nothing").json()["code"] == "not_found"
    assert raw.delete("rollouts").status_code == 405
    assert raw.delete("rollouts").headers["content-type"] == "application/problem+json"
    assert raw.get("openapi.json").json()["info"]["title"] == "Phoenix Orchestrator"


@pytest.mark.parametrize("name", ["a/b", "..", "", "%2e%2e", "web?x=1", "web#x", "é", "a b"])
def test_no_name_is_taken_for_a_path(client, name):
    with pytest.raises(NotFound):
        client.rollout(name)


def test_what_nobody_foresaw_is_no_traceback(client, operations, capfd):
    operations.broken = True
    with pytest.raises(PhoenixError, match="an error of its own: RuntimeError") as caught:
        client.rollout("web")
    assert "nobody foresaw" not in str(caught.value)
    logged = capfd.readouterr()
    assert "Traceback" not in logged.out + logged.err
    assert "nobody foresaw this" in logged.out + logged.err
    assert "fake_phoenix.py:" in logged.out + logged.err


def test_only_the_owner_may_open_the_socket(operations):
    assert stat.S_IMODE((operations.data_dir / "phoenix.sock").stat().st_mode) == 0o600


def test_without_a_server_phoenix_is_not_running(tmp_path):
    with Client(tmp_path) as client, pytest.raises(Unavailable, match="not running") as caught:
        client.version()
    assert "phoenix up" in caught.value.remedy
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "phoenix.sock"))  # nobody listens: what a killed Phoenix leaves
    listener.close()
    with Client(tmp_path) as client, pytest.raises(Unavailable, match="not running"):
        client.version()


def test_a_server_that_does_not_answer_is_given_up(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "phoenix.sock"))
        listener.listen()
        with Client(tmp_path, timeout=0.1) as client, pytest.raises(Retryable, match=r"within 0\.1 s"):
            client.version()


def test_a_body_that_nobody_reads_does_not_cost_the_answer(operations):
    """The refusal of an unknown address comes while the body is still on its way."""
    path = operations.data_dir / "phoenix.sock"
    for _ in range(50):
        answer = ask(UnixConnection(path, 10), "POST", "/api/v1/nothing", b"x" * 100_000)
        assert answer.status == 404


@pytest.mark.parametrize("words", [b"", b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"])
def test_what_answers_no_http_went_away(tmp_path, words):
    def answer():
        connection, _ = listener.accept()
        connection.recv(4096)
        connection.sendall(words)
        connection.close()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "phoenix.sock"))
        listener.listen()
        thread = threading.Thread(target=answer)
        thread.start()
        with Client(tmp_path) as client, pytest.raises(Unavailable, match="went away"):
            client.version()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (500, b"<html>", Terminal),
        (502, b"{}", Terminal),
        (418, b'{"detail": "tea", "code": "new"}', PhoenixError),
    ],
)
def test_errors_of_others_are_errors_too(status, body, error):
    with pytest.raises(error):
        raise_problem(status, body)


async def test_serving_replaces_a_dead_socket_and_takes_its_own_away(tmp_path):
    path = tmp_path / "phoenix.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    task = asyncio.create_task(serve(create_app(FakeOperations()), path))
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path))) as http:
        async with asyncio.timeout(20):
            while True:
                try:
                    answer = await http.get("http://phoenix/api/v1/rollouts/web")
                    break
                except httpx.ConnectError:
                    await asyncio.sleep(0.01)
        assert answer.json()["rollout"]["status"]["state"] == State.PROGRESSING.value
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not path.exists()


async def test_a_request_under_way_is_answered_when_serving_ends(tmp_path):
    path = tmp_path / "phoenix.sock"
    operations, asked, go = FakeOperations(), asyncio.Event(), asyncio.Event()
    views = operations.views

    async def slow(**_):
        asked.set()
        await go.wait()
        return await views()

    operations.views = slow
    task = asyncio.create_task(serve(create_app(operations), path))
    async with (
        asyncio.timeout(20),
        httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path))) as http,
    ):
        while not path.exists():
            await asyncio.sleep(0.01)
        request = asyncio.create_task(http.get("http://phoenix/api/v1/rollouts"))
        await asked.wait()
        task.cancel()
        await asyncio.sleep(0)
        go.set()
        assert (await request).status_code == 200
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_path_too_long_for_a_socket_is_refused(tmp_path):
    with pytest.raises(Invalid, match="longer than 107 bytes") as caught:
        await serve(create_app(FakeOperations()), tmp_path / ("x" * 110))
    assert "--data-dir" in caught.value.remedy


def test_a_socket_that_somebody_removes_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "LOOK", 0.02)
    path = tmp_path / "phoenix.sock"
    with capture_logs() as logs, serving(FakeOperations(), tmp_path), Client(tmp_path) as client:
        for put in (lambda: None, path.touch):
            path.unlink()
            put()
            until_answered(client)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.unlink()
        path.mkdir()
        deadline = time.monotonic() + 20
        while not any("cannot be made again" in entry["event"] for entry in logs):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        path.rmdir()
        until_answered(client)
    assert not path.exists()


def until_answered(client):
    deadline = time.monotonic() + 20
    while True:
        try:
            return client.version()
        except Unavailable:
            assert time.monotonic() < deadline
            time.sleep(0.01)
