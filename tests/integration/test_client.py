"""The client over TCP with a token, changes that are sent again, streams that come back by themselves."""

from __future__ import annotations

import json
import socket
import threading
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.integration.fake_phoenix import FakeOperations, serving
from tests.integration.locked import Locked

from phoenix_orch.api.openapi import operations as described
from phoenix_orch.cli.main import run
from phoenix_orch.cli.options import SERVER
from phoenix_orch.client import Client, following
from phoenix_orch.client.events import StreamEvent, messages
from phoenix_orch.kernel.errors import Invalid, NotFound, Terminal, Unavailable
from phoenix_orch.rollout.status import CommandKind

TOKEN = "phx_1_t0k3nOfTheTest"
VERSION = b'{"version":"0.1.0","api":"v1"}'


@pytest.fixture(autouse=True)
def no_server_stays_named():
    yield
    SERVER.set(None)


class Scripted:
    """A server that gives each connection the next of its answers; None goes away after it has read."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)  # a thread that waits for nobody is woken by this alone
        self.listener.close()
        self.thread.join(20)
        assert not self.thread.is_alive()

    def _serve(self):
        for answer in self.answers:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                self.requests.append(self._read(connection))
                if answer is not None:
                    connection.sendall(answer)

    @staticmethod
    def _read(connection):
        found = b""
        while b"\r\n\r\n" not in found:
            found += connection.recv(65536)
        head, _, body = found.partition(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line), 0
        )
        while len(body) < length:
            body += connection.recv(65536)
        return head + b"\r\n\r\n" + body

    def header(self, number, name):
        lines = self.requests[number].split(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        return next(
            (
                v.decode()
                for k, _, v in (line.partition(b": ") for line in lines)
                if k.decode().lower() == name
            ),
            None,
        )


def answer(body, status=b"200 OK", kind=b"application/json"):
    head = b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (status, kind, len(body))
    return head + body


def stream(*parts):
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + b"".join(
        parts
    )


def message(event, data, identity):
    return f"event: {event}\ndata: {json.dumps(data)}\nid: {identity}\n\n".encode()


def test_a_token_is_shown_at_an_address():
    with Scripted(answer(VERSION)) as server, Client(url=server.url, token=TOKEN) as client:
        assert client.version()["api"] == "v1"
    assert server.header(0, "authorization") == f"Bearer {TOKEN}"


def test_the_environment_names_a_server(monkeypatch):
    with Scripted(answer(VERSION)) as server:
        monkeypatch.setenv("PHOENIX_URL", server.url)
        monkeypatch.setenv("PHOENIX_TOKEN", TOKEN)
        assert Client().version()["version"] == "0.1.0"
    assert server.header(0, "authorization") == f"Bearer {TOKEN}"
    monkeypatch.delenv("PHOENIX_URL")
    with pytest.raises(Invalid, match="neither a data directory"):
        Client()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "phoenix",
        "ftp://host",
        "http://",
        "http://host:x",
        "http://host:0",
        "http://u:p@host",
        "http://host/a?b",
    ],
)
def test_what_is_no_address_is_refused_and_not_repeated(url):
    with pytest.raises(Invalid) as caught:
        Client(url=url, token=TOKEN)
    assert TOKEN not in str(caught.value)
    assert "u:p" not in str(caught.value)


def test_a_token_does_not_travel_in_the_clear():
    with pytest.raises(Invalid, match="anybody on the way") as caught:
        Client(url="http://phoenix.example:7007", token=TOKEN)
    assert TOKEN not in str(caught.value)
    Client(url="http://[::1]:7007", token=TOKEN)


def test_nobody_at_an_address():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unavailable, match=f"Phoenix at http://127.0.0.1:{port} cannot be reached"):
        Client(url=f"http://127.0.0.1:{port}").version()


def test_a_change_is_sent_again_under_the_same_key_where_the_connection_is_lost():
    done = {"id": "x", "kind": "pause", "actor": "me", "at": "2026-03-01T12:00:00Z"}
    with Scripted(None, answer(json.dumps(done).encode(), b"202 Accepted")) as server:
        assert Client(url=server.url).command("web", CommandKind.PAUSE).id == "x"
    assert server.header(0, "idempotency-key") == server.header(1, "idempotency-key")
    assert server.requests[0].split(b"\r\n\r\n")[1] == server.requests[1].split(b"\r\n\r\n")[1]


def test_every_change_has_a_key_of_its_own_and_is_given_up_in_the_end():
    with Scripted(None, None, None, None) as server:
        for _ in range(2):
            with pytest.raises(Unavailable, match="went away"):
                Client(url=server.url).command("web", CommandKind.PAUSE)
    keys = [server.header(number, "idempotency-key") for number in range(4)]
    assert keys[0] == keys[1] != keys[2] == keys[3]


def test_a_stream_comes_back_where_it_was(monkeypatch):
    monkeypatch.setattr(following, "PAUSE", 0.01)
    with Scripted(
        stream(b": still here\n\nretry: 1000\n\n", message("rollout", {"a": 1}, "e-1")),
        None,
        stream(message("event", {"b": 2}, "e-2"), message("reconnect", {}, "e-2")),
        stream(message("gone", {}, "e-3")),
    ) as server:
        found = list(Client(url=server.url, token=TOKEN).stream("web"))
    assert found == [
        StreamEvent("rollout", {"a": 1}, "e-1"),
        StreamEvent("event", {"b": 2}, "e-2"),
        StreamEvent("gone", {}, "e-3"),
    ]
    assert [server.header(number, "last-event-id") for number in range(4)] == [None, "e-1", "e-1", "e-2"]
    assert server.header(3, "authorization") == f"Bearer {TOKEN}"


def test_a_stream_is_given_up_when_nobody_serves_any_more(monkeypatch):
    monkeypatch.setattr(following, "PAUSE", 0.01)
    monkeypatch.setattr(following, "PATIENCE", 0.1)
    with Scripted(stream(message("rollout", {}, "e-1"))) as server:
        found = Client(url=server.url).stream("web")
        assert next(found).event == "rollout"
    with pytest.raises(Unavailable, match="cannot be reached"):
        next(found)


def test_what_is_answered_instead_of_a_stream_is_raised(tmp_path):
    with serving(FakeOperations(), tmp_path), Client(tmp_path) as client:
        with pytest.raises(NotFound):
            next(client.stream("nope"))
        first = next(client.stream("web"))
        assert (first.event, first.data["rollout"]["name"]) == ("rollout", "web")
        assert next(client.stream()).event == "components"


def test_messages_of_several_lines_and_names_that_are_not_known():
    lines = [b"data: [1,\n", b"data: 2]\n", b"colour: red\n", b"\n", b"event: e\n", b"\n", b"data: 3\n"]
    assert list(messages(lines)) == [StreamEvent("message", [1, 2])]


@pytest.mark.parametrize("options", [("--token-file", "{file}"), ()])
def test_commands_ask_the_server_that_is_named(tmp_path, monkeypatch, capfd, options):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    body = json.dumps([])
    with Scripted(answer(body.encode())) as server:
        monkeypatch.setenv("PHOENIX_TOKEN", TOKEN)
        words = [word.format(file=file) for word in options]
        assert run(["--server", server.url, *words, "service", "list", "-o", "json"]) == 0
    assert server.header(0, "authorization") == f"Bearer {TOKEN}"
    assert json.loads(capfd.readouterr().out) == []


def test_a_server_that_is_away_has_no_traffic_object_here(tmp_path, capfd):
    """An abort by hand is for the machine where Phoenix runs: another rollout of that name stays as it is."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    words = ["--data-dir", str(tmp_path), "--server", f"http://127.0.0.1:{port}", "rollout", "abort", "web"]
    assert run([*words, "--reason", "x"]) == 3
    assert "cannot be reached" in capfd.readouterr().err
    assert not Path(tmp_path / "aborts").exists()


NOT_FOR_PROGRAMS = {
    "get_metrics",
    "probe_live",
    "probe_ready",
    "probe_startup",
    "begin_session",
    "get_session",
    "end_session",
}
"""Operations that others ask: Prometheus, supervisors, browsers."""


def test_every_operation_has_a_method(tmp_path):
    """Whatever is described can be called with the client: the path of each operation stands in its code."""
    modules = Path(following.__file__).parent.glob("*.py")
    source = "\n".join(module.read_text(encoding="utf-8") for module in modules)
    missing = []
    for path, _, operation in described(Locked(tmp_path).app.openapi()):
        if operation["operationId"] in NOT_FOR_PROGRAMS:
            continue
        parts = [part for part in path.removeprefix("/api/v1/").split("/") if not part.startswith("{")]
        if not any(
            f'"{parts[0]}"' in line and all(f'"{part}"' in line for part in parts)
            for line in source.splitlines()
        ):
            missing.append(operation["operationId"])
    assert missing == []


def test_terminal_is_told_of_an_answer_of_others():
    with Scripted(answer(b"<html>", b"502 Bad Gateway", b"text/html")) as server, pytest.raises(Terminal):
        Client(url=server.url).version()


def problem(status: int, words: bytes, **fields: object) -> bytes:
    document = {
        "title": "Not valid",
        "status": status,
        "code": "invalid",
        "detail": "no",
        "remedy": "mend it",
    }
    body = json.dumps({**document, **fields}).encode()
    return answer(body, b"%d %s" % (status, words), b"application/problem+json")


OTHER = b'{"version":"9.8.7","api":"v1"}'
NO_ADDRESS = problem(
    404, b"Not Found", title="No such address", code="not_found", detail="there is no /api/v1/freezes"
)
NO_FIELD = problem(422, b"Unprocessable", detail="overrideFreeze: unknown key")


@pytest.mark.parametrize("refused", [NO_ADDRESS, NO_FIELD], ids=["address", "field"])
def test_an_older_phoenix_that_does_not_know_what_is_asked_is_named_with_both_versions(refused, capsys):
    with Scripted(refused, answer(OTHER)) as server:
        assert run(["--server", server.url, "freeze", "list"]) == 2
    said = capsys.readouterr().err
    assert f"Phoenix at {server.url} is version 9.8.7, and this is {version('phoenix-orchestrator')}" in said
    assert "use the `phoenix` of the same version as the one that runs" in said
    assert b"GET /api/v1/version" in server.requests[1]


def test_of_the_same_version_it_is_an_error_like_any_other():
    same = json.dumps({"version": version("phoenix-orchestrator")}).encode()
    with (
        Scripted(NO_FIELD, answer(same)) as server,
        Client(url=server.url, token=TOKEN) as client,
        pytest.raises(Invalid) as refused,
    ):
        client.freezes()
    assert str(refused.value) == "overrideFreeze: unknown key (mend it)"


def test_a_name_that_nobody_has_asks_for_no_version():
    unknown = problem(404, b"Not Found", title="No such name", code="not_found", detail="there is no rollout")
    with (
        Scripted(unknown) as server,
        Client(url=server.url, token=TOKEN) as client,
        pytest.raises(NotFound),
    ):
        client.rollout("web")
    assert len(server.requests) == 1


@pytest.mark.parametrize("then", [answer(b"<html>"), answer(b"{}"), answer(b"[]"), None], ids=str)
def test_a_version_that_cannot_be_had_spoils_no_error(then):
    with (
        Scripted(NO_FIELD, then, then) as server,
        Client(url=server.url, token=TOKEN) as client,
        pytest.raises(Invalid, match="overrideFreeze: unknown key"),
    ):
        client.freezes()


def test_fields_that_a_newer_phoenix_has_added_are_passed_over(tmp_path):
    """Within v1 fields may be added."""
    with serving(FakeOperations(), tmp_path), Client(tmp_path) as client:
        view = client.rollout("web").model_dump(mode="json", by_alias=True)
    newer = {**view, "mood": "good", "rollout": {**view["rollout"], "colour": {"red": 1}}}
    with Scripted(answer(json.dumps(newer).encode())) as server, Client(url=server.url) as client:
        assert client.rollout("web").model_dump(mode="json", by_alias=True) == view


def test_an_answer_that_cannot_be_understood_names_both_versions(tmp_path):
    with serving(FakeOperations(), tmp_path), Client(tmp_path) as client:
        view = client.rollout("web").model_dump(mode="json", by_alias=True)
    view["rollout"]["status"]["state"] = "Dreaming"
    words = [answer(json.dumps(view).encode()), answer(OTHER)]
    with (
        Scripted(*words) as server,
        Client(url=server.url) as client,
        pytest.raises(Terminal, match=r"9\.8\.7, and this is") as refused,
    ):
        client.rollout("web")
    assert "same version" in refused.value.remedy
