"""What leaves by the API: no value of an environment, nothing secret of an address, no control."""

from __future__ import annotations

import json
import math
import stat

import httpx
import pytest
from tests.integration.fake_phoenix import NEW, NOW, OLD, FakeOperations, serving, text_of
from tests.integration.known import admin

from phoenix_orch.api.server import create_app
from phoenix_orch.client import Client
from phoenix_orch.client.transport import UnixConnection, ask
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.masking import Masker
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.layout import Layout, mask_key
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import CommandKind, Event, Revision

CANARY = "s3cr3tCanary"
LIMIT = 1024 * 1024
SPEC = RolloutSpec.model_validate(
    {
        "checks": [
            {"name": "a", "http": {"url": f"http://user:{CANARY}@127.0.0.1/x?token={CANARY}"}},
            {"name": "b", "http": {"url": f"{{canary}}/x?token={CANARY}"}},
            {
                "name": "c",
                "exec": {"command": ["x", "--token", CANARY, f"http://{CANARY}@h/"], "env": {"K": CANARY}},
            },
        ],
        "verify": {
            "logs": {"bad": ["(a?b=c)"]},
            "criticalPaths": [{"name": "p", "http": {"url": f"{{route}}/?t={CANARY}"}}],
        },
    }
)


class Secretive(FakeOperations):
    """As FakeOperations, with secrets wherever there may be some."""

    def __init__(self):
        super().__init__()
        self.pictures = [
            picture.model_copy(update={"rollout": picture.rollout.model_copy(update={"spec": SPEC})})
            for picture in self.pictures
        ]
        self.refusal = ""

    async def revisions(self, name):
        command = ["app", "--port", "{port}", f"--password={CANARY}"]
        envs = ({"DB": CANARY, "LEVEL": "info"}, {"DB": f"{CANARY}2", "LEVEL": "info"})
        return [
            Revision(
                revision=revision,
                number=number,
                version="1",
                at=NOW,
                template={"command": command, "env": env, "health": {"path": "/healthz"}},
            )
            for number, (revision, env) in enumerate(zip((OLD, NEW), envs, strict=True), start=1)
        ]

    async def events(self, name, limit):
        """One that was stored before events were made fit."""
        text = f"http://u:{CANARY}@h/: \x1b[31mstatus\x1b[0m 503\nline two"
        return [Event.model_construct(at=NOW, reason="Latched", message=text)]

    async def undo(self, name, **wanted):
        raise Invalid(f"http://u:{CANARY}@h/ \x1b[31mis bad\x1b[0m", remedy=f"not {CANARY}@h:x@y")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("d")
    with serving(Secretive(), data_dir) as operations:
        operations.data_dir = data_dir
        yield operations


@pytest.fixture
def operations(served):
    served.__init__()
    return served


@pytest.fixture
def raw(operations):
    transport = httpx.HTTPTransport(uds=str(operations.data_dir / "phoenix.sock"))
    with httpx.Client(transport=transport, base_url="http://phoenix/api/v1/") as http:
        yield http


@pytest.fixture
def root(operations):
    transport = httpx.HTTPTransport(uds=str(operations.data_dir / "phoenix.sock"))
    with httpx.Client(transport=transport, base_url="http://phoenix") as http:
        yield http


WRITTEN_MASKED = ("/api/v1/tasks", "/api/v1/task-kinds", "/api/v1/schedules")
"""What tasks say is masked where it is written: the tests of tasks."""


def reads() -> list[str]:
    """Every address that can be read."""
    paths = create_app(Operations).openapi()["paths"]
    return sorted(
        path.replace("{name}", "web")
        for path, methods in paths.items()
        if "get" in methods and not path.startswith(WRITTEN_MASKED)
    )


@pytest.mark.parametrize("path", reads())
def test_nothing_secret_is_read(root, path):
    text = text_of(root, path)
    assert CANARY not in text
    assert "\x1b" not in text


def test_names_and_everything_else_stay(raw):
    template = raw.get("rollouts/web/revisions").json()[0]["template"]
    assert list(template["env"]) == ["DB", "LEVEL"]
    assert template["command"] == ["app", "--port", "{port}", "--password=<masked>"]
    assert template["health"] == {"path": "/healthz"}
    spec = raw.get("rollouts/web").json()["rollout"]["spec"]
    assert [check["name"] for check in spec["checks"]] == ["a", "b", "c"]
    assert spec["checks"][0]["http"]["url"] == "http://<masked>@127.0.0.1/x?token=<masked>"
    assert spec["checks"][2]["exec"]["command"] == ["x", "--token", "<masked>", "http://<masked>@h/"]
    assert list(spec["checks"][2]["exec"]["env"]) == ["K"]
    assert spec["verify"]["logs"]["bad"] == ["(a?b=c)"]


def test_the_client_understands_all_of_it(operations):
    with Client(operations.data_dir) as client:
        assert [check.name for check in client.rollout("web").rollout.spec.checks] == ["a", "b", "c"]
        assert len(client.revisions("web")) == 2
        (event,) = client.events("web")
        assert event.message == "http://<masked>@h/: status 503 line two"


def test_errors_are_masked_and_plain(raw):
    answer = raw.post("rollouts/web/undo", json={}).json()
    assert CANARY not in json.dumps(answer)
    assert answer["detail"] == "http://<masked>@h/ is bad"


def test_a_sign_tells_where_values_differ():
    async def revisions(key):
        app = create_app(Secretive(), Masker(key), authenticators=(admin,))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://phoenix/api/v1/") as http:
            found = (await http.get("rollouts/web/revisions")).json()
            return [one["template"]["env"] for one in found]

    import asyncio  # noqa: PLC0415

    first, second = asyncio.run(revisions(b"a" * 32))
    assert first["LEVEL"] == second["LEVEL"]
    assert first["DB"] != second["DB"]
    assert asyncio.run(revisions(b"b" * 32))[0]["DB"] != first["DB"]
    assert asyncio.run(revisions(None))[0] == {"DB": "<masked>", "LEVEL": "<masked>"}


def test_the_key_is_made_once_and_is_for_its_owner_alone(tmp_path):
    layout = Layout(tmp_path)
    key = mask_key(layout)
    assert key is not None
    assert len(key) == 32
    assert mask_key(layout) == key
    assert stat.S_IMODE(layout.mask_key.stat().st_mode) == 0o600
    layout.mask_key.write_bytes(b"short")
    assert mask_key(layout) is None
    layout.mask_key.unlink()
    layout.mask_key.mkdir()
    assert mask_key(layout) is None


def test_numbers_that_json_does_not_have_come_back(operations):
    picture = operations.pictures[0]
    verdict = picture.verdict.model_copy(update={"e": math.inf})
    operations.pictures = [picture.model_copy(update={"verdict": verdict})]
    with Client(operations.data_dir) as client:
        assert client.rollout("web").verdict.e == math.inf
        assert client.verdict("web").e == math.inf


# -- what comes in ---------------------------------------------------------------------------------

CONFIG = {
    "services": {"web": {"command": "app {port}"}},
    "routes": {"web": {"service": "web"}},
}


def refused(answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]
    assert answer.json()["remedy"]
    assert CANARY not in answer.text


def test_a_mask_is_not_taken_for_a_value(raw, operations):
    shown = raw.get("rollouts/web/revisions").json()[0]["template"]["env"]
    refused(raw.post("rollouts/web/start", json={"env": shown}), 422, "env.DB")
    config = {**CONFIG, "services": {"web": {"command": "app {port}", "env": shown}}}
    refused(raw.post("apply", json={"config": config}), 422, "services.web.env.DB")
    url = raw.get("rollouts/web").json()["rollout"]["spec"]["checks"][0]["http"]["url"]
    checks = [{"name": "a", "http": {"url": url}}]
    config = {**CONFIG, "rollouts": {"web": {"checks": checks}}}
    refused(raw.post("apply", json={"config": config}), 422, "rollouts.web.checks[0].http.url")
    assert operations.calls == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"env": {"A=x": CANARY}}, "env.A: this cannot be the name of a variable"),
        ({"env": {"": CANARY}}, "env: this cannot be the name of a variable"),
        ({"env": {"A\0B": CANARY}}, "cannot be the name of a variable"),
        ({"env": {"A": f"{CANARY}\0"}}, "env.A: no program can be given a zero byte"),
        ({"env": {"A": 5, "B": [CANARY]}}, "env.A: this has to be text"),
        ({"command": ["app", "{port}", f"{CANARY}\0"]}, "command[2]: no program can be given a zero byte"),
        ({"env": {"A": f"{CANARY}\ud800"}}, "env.A: this is no text"),
        ({"version": "\ud800"}, "version: this is no text"),
        ({"changeCause": "\udfff"}, "changeCause: this is no text"),
        ({"changeCause": "x" * 501}, "changeCause: too long"),
        ({f"\ud800{CANARY}": 1}, "unknown key"),
    ],
)
def test_what_no_program_can_be_given_is_refused(raw, operations, body, words):
    answer = raw.post(
        "rollouts/web/start", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    if words == "unknown key":
        assert answer.status_code == 422
    else:
        refused(answer, 422, words)
    assert operations.calls == []


@pytest.mark.parametrize(
    ("service", "words"),
    [
        ({"env": {"A=x": CANARY}}, "config.services.web.env.A: this cannot be the name"),
        ({"env": {"A": f"{CANARY}\0"}}, "config.services.web.env.A: no program can be given a zero byte"),
        ({"env": {"A": f"{CANARY}{{nope}}"}}, "config.services.web.env.A: a placeholder that means nothing"),
        ({"env": {"A": {CANARY: CANARY}}}, "config.services.web.env.A: this has to be text"),
        ({"env": CANARY}, "config.services.web.env: this has to be a mapping"),
        ({"env": [CANARY]}, "config.services.web.env: this has to be a mapping"),
        ({"command": f"app {{port}} \0{CANARY}"}, "config.services.web.command[2]: no program can be given"),
        ({"cwd": "/tmp/\0"}, "config.services.web.cwd: no program can be given"),
        ({"environ": CANARY}, "config.services.web.environ: unknown key"),
        ({"env": {"A": "\ud800"}}, "config.services.web.env.A: this is no text"),
    ],
)
def test_configurations_are_refused_without_being_repeated(raw, operations, service, words):
    config = {**CONFIG, "services": {"web": {"command": "app {port}", **service}}}
    content = json.dumps({"config": config})
    refused(raw.post("apply", content=content, headers={"content-type": "application/json"}), 422, words)
    assert operations.calls == []


@pytest.mark.parametrize("path", ["commands", "undo"])
def test_a_reason_has_an_end(raw, operations, path):
    body = {"kind": "pause", "reason": "x" * 501} if path == "commands" else {"reason": "x" * 501}
    refused(raw.post(f"rollouts/web/{path}", json=body), 422, "reason: too long, found 'xxx")
    assert operations.calls == []


def test_a_reason_is_made_one_plain_line(operations):
    with Client(operations.data_dir) as client:
        client.command("web", CommandKind.PAUSE, reason=f"a\nb \x1b[31mred \u202e http://u:{CANARY}@h/")
    ((*_, reason),) = operations.calls
    assert reason == "a b red \ufffd http://<masked>@h/"


def test_a_body_has_an_end(raw, operations):
    large = json.dumps({"changeCause": "x" * LIMIT})
    refused(
        raw.post("rollouts/web/start", content=large, headers={"content-type": "application/json"}),
        413,
        "1,048,576 bytes",
    )
    pieces = (b"x" * 65536 for _ in range(400))  # 25 MiB without a Content-Length
    refused(raw.post("rollouts/web/start", content=pieces), 413, "1,048,576 bytes")
    within = json.dumps({"config": CONFIG, "dryRun": True}).ljust(LIMIT)
    answer = raw.post("apply", content=within, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert operations.calls == []


def test_a_client_that_sends_without_end_is_not_listened_to(operations):
    def endless():
        while True:
            yield b"x" * 65536

    transport = httpx.HTTPTransport(uds=str(operations.data_dir / "phoenix.sock"))
    with httpx.Client(transport=transport, base_url="http://phoenix", timeout=20) as http:
        try:
            status = http.post("/api/v1/apply", content=endless()).status_code
        except httpx.TransportError:
            status = 413  # cut off while it sent
    assert status == 413


def test_the_client_does_not_send_what_would_be_refused(operations):
    env = {"A": "x" * LIMIT}
    with Client(operations.data_dir) as client, pytest.raises(Invalid, match="1,048,576 bytes") as caught:
        client.start("web", env=env)
    assert caught.value.exit_code == 2


def test_a_large_body_gets_its_answer_and_no_reset(operations):
    for _ in range(20):
        path = operations.data_dir / "phoenix.sock"
        assert ask(UnixConnection(path, 10), "POST", "/api/v1/apply", b"x" * (4 * LIMIT)).status == 413


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"reason": "' + b"\\ud800" * 10 + b'"}',
        b'{"reason": "\xff"}',
        b'{"kind": ' + b"9" * 5000 + b"}",
        b'{"kind": NaN}',
        b'{"kind": "pause", "step": 1e999}',
        b"\0",
        b'"\\u0000"',
    ],
)
def test_no_body_is_an_error_of_phoenix(raw, operations, body):
    for path in ("rollouts/web/commands", "rollouts/web/undo", "apply"):
        answer = raw.post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422), answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    assert operations.calls == []


@pytest.mark.parametrize("name", ["%ff", "%00", "%ed%a0%80", "a%0ab", "%1b%5b31m", "%e2%80%ae"])
def test_no_address_is_an_error_of_phoenix(raw, name):
    for path in (f"rollouts/{name}", f"services/{name}", f"services/web/logs?instance={name}", f"{name}"):
        answer = raw.get(path)
        assert answer.status_code in (404, 422), answer.text
        assert not {"\x1b", "\u202e"} & set(answer.json()["detail"])


def test_a_file_of_phoenix_is_what_is_read_back(operations):
    config = PhoenixFile.model_validate(
        {**CONFIG, "services": {"web": {"command": "app {port}", "env": {"DB": CANARY}}}}
    )
    with Client(operations.data_dir) as client:
        client.apply(config)
    ((_, applied, _),) = operations.calls
    assert applied == config
