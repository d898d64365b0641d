"""Ten megabytes of logs of a Phoenix that was given secrets in every way there is: they hold none of them.

Logs are its standard error, the access log, the audit log and whatever else it writes beside its state. Each
secret is looked for as it is, in base64 wherever it may begin, and as an address writes it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

import httpx
import pytest
from tests.faults.story import until
from tests.integration.oidc_server import let_in, providing
from tests.tasks.phoenix import Phoenix

from phoenix_orch.security.rights import Role
from phoenix_orch.testing.loopback import quiet_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

WANTED = 10 * 1024 * 1024
"""Bytes of logs."""
CALLERS = 8
ROUND = 400
"""Requests between two looks at how much was written."""
HOLDERS = ("valkey/", "applied.json", "serving.json", "services/web/instances.json")
"""Where services and tasks are started from: the one place for what they are given."""


@dataclass
class Canaries:
    """One secret for each way in; every one has characters that encodings change."""

    oidc: str = "oidc/cli3nt+Secret?4711"
    header: str = "head/3r+Canary?4712"
    environment: str = "env/vAr+Canary?4713"
    address: str = "us3r/info+Canary?4714"
    task_environment: str = "t4sk/env+Canary?4715"
    task_argument: str = "t4sk/arg+Canary?4716"
    store: str = "st0re/Pass+Canary?4717"
    token: str = field(default="", repr=False)
    """Of the API, as Phoenix made it."""

    @property
    def url(self) -> str:
        return f"http://user:{quote(self.address, safe='')}@127.0.0.1:1/"


def forms(secret: str) -> dict[str, bytes]:
    """How it may be written, by what that is called."""
    found = {"plain": secret, "percent": quote(secret, safe=""), "form": quote_plus(secret)}
    for before in range(3):
        text = base64.b64encode(b"-" * before + secret.encode()).decode()
        whole = text[(0, 2, 3)[before] : len(text) // 4 * 4 - 4]  # without what its neighbours decide
        found[f"base64+{before}"] = whole
        found[f"base64url+{before}"] = whole.replace("+", "-").replace("/", "_")
    return {name: text.encode() for name, text in found.items()}


class Watched(Phoenix):
    """A Phoenix that was told all of them."""

    def __init__(self, directory: Path, canaries: Canaries, issuer: str) -> None:
        super().__init__(directory)
        self.log = directory / "log"
        self.api = quiet_port()
        secret = directory / "client-secret"
        secret.write_text(canaries.oidc)
        leak = "echo password=$PASSWORD; echo failed at $ADDRESS >&2; exit 1"
        check = {"name": "far", "http": {"url": canaries.url}, "interval": "5s", "threshold": 1}
        oidc = {"issuer": issuer, "clientId": "phoenix", "clientSecretFile": str(secret)}
        service = [sys.executable, "-P", "-m", "phoenix_orch.demo.service", "--port", "{port}"]
        described = {
            "router": {"listen": f"127.0.0.1:{quiet_port()}"},
            "api": {
                "oidc": {**oidc, "grants": [{"value": "releases", "role": "operator"}]},
            },
            "services": {"web": {"command": service, "env": {"DB_PASSWORD": canaries.environment}}},
            "routes": {"web": {"service": "web"}},
            "rollouts": {"web": {"checks": [check]}},
            "tasks": {
                "leak": {
                    "command": ["sh", "-c", leak, "--token", canaries.task_argument],
                    "env": {"PASSWORD": canaries.task_environment, "ADDRESS": canaries.url},
                },
                "missing": {"command": ["/no/such/program", f"--password={canaries.task_argument}"]},
            },
        }
        (directory / "phoenix.yaml").write_text(json.dumps(described))

    @contextlib.contextmanager
    def local(self) -> Iterator[httpx.Client]:
        """As a user of this machine."""
        transport = httpx.HTTPTransport(uds=str(self.data_dir / "phoenix.sock"))
        with httpx.Client(transport=transport, base_url="http://phoenix/api/v1/", timeout=30) as http:
            yield http

    @contextlib.contextmanager
    def remote(self, **headers: str) -> Iterator[httpx.Client]:
        """As anybody who reaches its port."""
        with httpx.Client(base_url=f"http://127.0.0.1:{self.api}", headers=headers, timeout=30) as http:
            yield http

    def listens(self) -> bool:
        with contextlib.suppress(httpx.TransportError), self.remote() as http:
            return http.get("/healthz/live").status_code == 200
        return False

    def logs(self) -> list[Path]:
        """Its files but those of `HOLDERS`, and its standard error."""
        found = [path for path in self.data_dir.rglob("*") if path.is_file()]
        return [self.log, *(one for one in found if not self._holds(one))]

    def _holds(self, path: Path) -> bool:
        return str(path.relative_to(self.data_dir)).startswith(HOLDERS)


@pytest.fixture(scope="module")
def canaries() -> Canaries:
    return Canaries()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, canaries: Canaries) -> Iterator[Watched]:
    with pytest.MonkeyPatch.context() as patch, providing() as issuer:
        made = Watched(tmp_path_factory.mktemp("p"), canaries, issuer)
        patch.setenv("PHOENIX_LISTEN", f"127.0.0.1:{made.api}")
        with made:
            until("its port answers", made.listens)
            yield made


@pytest.fixture(scope="module")
def said(watched: Watched, canaries: Canaries) -> str:
    """What commands said that were given secrets, after everything has been done with them."""
    _ask_with_tokens(watched, canaries)
    _log_in(watched)
    _run_tasks(watched, canaries)
    _release(watched, canaries)
    commands = (
        ("serve", "orchestrator", "--store", f"redis://:{quote(canaries.store, safe='')}@127.0.0.1:1/0"),
        ("rollout", "start", "web", "--version", "2", "--env", f"A={canaries.environment}", "--dry-run"),
        ("rollout", "abort", "web", "--reason", f"see {canaries.url}"),
    )
    told = [watched.run(*words) for words in commands]
    _fill(watched, canaries)
    return "".join(one.stdout + one.stderr for one in told)


def _ask_with_tokens(watched: Watched, canaries: Canaries) -> None:
    with watched.client() as client:
        canaries.token = client.create_token("robot", Role.OPERATOR).token
    with watched.remote(Authorization=f"Bearer {canaries.token}") as http:
        assert http.get("/api/v1/identity").json()["name"] == "robot"
        for path in ("rollouts/none", "none", f"rollouts?token={canaries.token}", f"tasks/{canaries.token}"):
            assert http.get(f"/api/v1/{path}").status_code < 500
    basic = base64.b64encode(f"user:{canaries.header}".encode()).decode()
    for value in (f"Bearer {canaries.header}", f"Basic {basic}", canaries.header):
        with watched.remote(Authorization=value) as http:
            assert http.get("/api/v1/rollouts").status_code in (401, 429)


def _log_in(watched: Watched) -> None:
    with watched.remote() as http:
        away = http.get("/login/oidc?next=/console")
        assert http.get(let_in(away.headers["location"], "4711")).status_code == 303
        assert http.get(let_in(away.headers["location"], "4711")).status_code >= 400  # for the second time


def _run_tasks(watched: Watched, canaries: Canaries) -> None:
    for kind in ("leak", "missing"):
        done = watched.run("task", "run", kind, "--reason", f"see {canaries.url}", "--follow")
        assert done.returncode != 0


def _release(watched: Watched, canaries: Canaries) -> None:
    """One that its check finds wanting."""
    with watched.client() as client:
        client.start("web", version="2", env={"MORE": canaries.environment}, change_cause=canaries.url)
    until("the check has failed", lambda: "check far failed" in watched.log.read_text())


def _fill(watched: Watched, canaries: Canaries) -> None:
    """Ask, and want what fails, until enough is written."""
    reason = f"see {canaries.url} {'and so on ' * 40}"

    def ask(http: httpx.Client, number: int) -> None:
        kind = ("leak", "none")[number % 20 > 0]
        http.post("tasks", json={"kind": kind, "reason": reason, "key": f"k{number % 5}"})
        http.post("rollouts/web/commands", json={"kind": "pause", "reason": reason})
        http.get(f"rollouts/none?password={quote(canaries.header, safe='')}")

    with watched.local() as http, ThreadPoolExecutor(CALLERS) as callers:
        while sum(path.stat().st_size for path in watched.logs()) < WANTED:
            list(callers.map(lambda number: ask(http, number), range(ROUND)))


def test_secrets_were_really_there(watched: Watched, canaries: Canaries, said: str) -> None:
    assert said
    applied = (watched.data_dir / "applied.json").read_text()
    for secret in (canaries.environment, canaries.task_environment, canaries.task_argument):
        assert secret in applied
    assert len(canaries.token) > 20


def test_ten_megabytes_of_logs_hold_no_secret(watched: Watched, canaries: Canaries, said: str) -> None:
    texts = {str(path): path.read_bytes() for path in watched.logs()} | {"commands": said.encode()}
    assert sum(map(len, texts.values())) >= WANTED
    found = [
        f"{name} in {place}, {form}"
        for name, secret in vars(canaries).items()
        for form, written in forms(secret).items()
        for place, text in texts.items()
        if written in text
    ]
    assert found == []


def test_a_secret_would_be_found() -> None:
    secret = Canaries().address
    for before in range(4):
        line = base64.b64encode(b"x" * before + secret.encode() + b"yz")
        assert any(written in line for name, written in forms(secret).items() if "base64" in name)
    assert forms(secret)["percent"] in Canaries().url.encode()
