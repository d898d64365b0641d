"""Which cluster is meant, as whom, and how a login program is asked."""

from __future__ import annotations

import asyncio
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from lightkube.config.models import NameValue, UserExec

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kube.config import Target, load
from phoenix_orch.kube.errors import Unauthenticated
from phoenix_orch.kube.exec_login import ExecLogin
from phoenix_orch.kube.wire import Wire

SECRET = "s3cr3t-token"


def kubeconfig(path: Path, name: str, *, current: bool = True, **user: Any) -> Path:
    data = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}:6443"}}],
        "users": [{"name": name, "user": user or {"token": SECRET}}],
        "contexts": [
            {"name": name, "context": {"cluster": name, "user": name, "namespace": f"{name}-space"}},
            {"name": f"{name}-plain", "context": {"cluster": name, "user": name}},
        ],
    }
    if current:
        data["current-context"] = name
    path.write_text(json.dumps(data))
    return path


def pod(folder: Path) -> dict[str, str]:
    folder.mkdir()
    (folder / "token").write_text(SECRET)
    (folder / "namespace").write_text("phoenix-orch\n")
    return {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}


def test_context_and_namespace(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path / "config", "prod")
    assert (load(path).server, load(path).namespace) == ("https://prod:6443", "prod-space")
    assert load(path, context="prod-plain").namespace == "default"
    assert load(path, namespace="mine").namespace == "mine"


def test_what_is_named_goes_before_the_environment_and_that_before_the_pod(tmp_path: Path) -> None:
    account = tmp_path / "account"
    environment = pod(account)
    found = load(environment=environment, service_account=account)
    assert (found.server, found.namespace) == ("https://[fd00::1]:443", "phoenix-orch")
    environment["KUBECONFIG"] = str(kubeconfig(tmp_path / "one", "one"))
    assert load(environment=environment, service_account=account).server == "https://one:6443"
    two = kubeconfig(tmp_path / "two", "two")
    assert load(two, environment=environment, service_account=account).server == "https://two:6443"


def test_several_files_are_merged_as_kubectl_does(tmp_path: Path) -> None:
    one = kubeconfig(tmp_path / "one", "one", current=False)
    (tmp_path / "sub").mkdir()
    two = kubeconfig(tmp_path / "sub/two", "two", tokenFile="token")
    environment = {"KUBECONFIG": f"{one}:{tmp_path / 'missing'}:{two}"}
    assert load(environment=environment).server == "https://two:6443"  # the first that says one
    assert load(environment=environment, context="one").server == "https://one:6443"
    user = load(environment=environment, context="two").single.user
    assert user is not None
    assert user.token_file == str(tmp_path / "sub/token")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "form of a kubeconfig"),
        ("[]", "form of a kubeconfig"),
        ("a: [", "form of a kubeconfig"),
        ("clusters: []", "'contexts' is missing"),
        ("{clusters: [], contexts: []}", "context"),
        (
            "{clusters: [], contexts: [{name: a, context: {cluster: b}}], current-context: a}",
            "'b' is missing",
        ),
        (f"{{clusters: [], contexts: [], users: [{{name: a, user: {{token: [{SECRET}]}}}}]}}", "form"),
        ("{clusters: [], contexts: [], current-context: nope}", "nope"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_without_its_secrets(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(Invalid, match=told) as found:
        load(path)
    assert SECRET not in str(found.value)
    assert "kubectl config view" in found.value.remedy


def test_no_cluster_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(Invalid, match="no kubeconfig"):
        load(environment={}, service_account=tmp_path)
    with pytest.raises(Invalid, match="not found"):
        load(tmp_path / "missing")
    with pytest.raises(Invalid, match="none of the files"):
        load(environment={"KUBECONFIG": "/missing/a:/missing/b"}, service_account=tmp_path)


def test_a_target_does_not_tell_its_secrets(tmp_path: Path) -> None:
    target = load(kubeconfig(tmp_path / "config", "prod"))
    assert SECRET not in f"{target!r} {target!s}"


def test_certificates_that_are_none_are_told(tmp_path: Path) -> None:
    target = load(
        kubeconfig(
            tmp_path / "config", "prod", **{"client-certificate-data": "bm8=", "client-key-data": "bm8="}
        )
    )
    with pytest.raises(Invalid, match="certificates or the user of https://prod:6443"):
        Wire(target, user_agent="test")


class Program:
    """A login program that counts how often it ran."""

    def __init__(self, folder: Path, body: str) -> None:
        self.runs = folder / "runs"
        self.path = folder / "login"
        self.path.write_text(f"#!/bin/sh\necho run >> {self.runs}\n{body}\n")
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)

    @property
    def count(self) -> int:
        return len(self.runs.read_text().splitlines()) if self.runs.exists() else 0


def printing(ends: str = "") -> str:
    status = {"token": SECRET, **({"expirationTimestamp": ends} if ends else {})}
    return f"cat <<'X'\n{json.dumps({'kind': 'ExecCredential', 'status': status})}\nX"


async def ask(login: ExecLogin, *codes: int) -> list[str]:
    """Send a request through the login; the answers are `codes`. Gives the tokens that were sent."""
    sent: list[str] = []
    flow = login.async_auth_flow(httpx2.Request("GET", "https://prod/"))
    request = await anext(flow)
    for code in codes:
        sent.append(request.headers["Authorization"])
        try:
            request = await flow.asend(httpx2.Response(code))
        except StopAsyncIteration:
            break
    return sent


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha1"])
async def test_a_login_program_is_asked_once_for_many(tmp_path: Path, version: str) -> None:
    program = Program(tmp_path, printing())
    login = ExecLogin(UserExec(f"client.authentication.k8s.io/{version}", str(program.path)), {})
    answers = await asyncio.gather(*(ask(login, 200) for _ in range(10)))
    assert answers == [[f"Bearer {SECRET}"]] * 10
    assert program.count == 1


async def test_a_token_that_ends_or_is_refused_is_asked_for_anew(tmp_path: Path) -> None:
    program = Program(tmp_path, printing("2026-01-01T01:00:00Z"))
    now = datetime(2026, 1, 1, tzinfo=UTC)
    login = ExecLogin(UserExec("client.authentication.k8s.io/v1", str(program.path)), {}, now=lambda: now)
    await ask(login, 200)
    await ask(login, 200)
    assert program.count == 1
    assert len(await ask(login, 401, 200)) == 2
    assert program.count == 2
    now += timedelta(hours=1)
    await ask(login, 200)
    assert program.count == 3


async def test_a_login_program_knows_the_cluster_and_its_environment(tmp_path: Path) -> None:
    program = Program(tmp_path, f'echo "$KUBERNETES_EXEC_INFO $PROFILE $1" > {tmp_path}/info\n{printing()}')
    how = UserExec(
        "client.authentication.k8s.io/v1", str(program.path), [NameValue("PROFILE", "mine")], ["argument"]
    )
    await ask(ExecLogin(how, {"server": "https://prod"}), 200)
    info, *rest = (tmp_path / "info").read_text().rsplit(" ", 2)
    assert json.loads(info)["spec"] == {"interactive": False, "cluster": {"server": "https://prod"}}
    assert [word.strip() for word in rest] == ["mine", "argument"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("exit 3", "status 3"),
        (f"echo {SECRET}", "no token"),
        ("echo '{}'", "no token"),
        ("kill -9 $$", "status -9"),
    ],
)
async def test_a_login_program_that_fails_is_told_without_its_output(
    tmp_path: Path, body: str, told: str
) -> None:
    login = ExecLogin(UserExec("client.authentication.k8s.io/v1", str(Program(tmp_path, body).path)), {})
    with pytest.raises(Unauthenticated, match=told) as found:
        await ask(login, 200)
    assert SECRET not in str(found.value)


async def test_a_login_program_that_is_not_there_tells_how_to_get_it() -> None:
    how = UserExec("client.authentication.k8s.io/v1", "/missing/login", installHint="install it\nfrom there")
    with pytest.raises(Unauthenticated, match="cannot be started: No such file") as found:
        await ask(ExecLogin(how, {}), 200)
    assert found.value.remedy == "install it from there"
    with pytest.raises(Unauthenticated, match="does not know"):
        await ask(ExecLogin(UserExec("v9", "/bin/true"), {}), 200)


def test_the_kubeconfigs_login_program_is_used(tmp_path: Path) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "login"}}
    target: Target = load(kubeconfig(tmp_path / "config", "prod", **user))
    assert isinstance(Wire(target, user_agent="test")._pools["normal"].auth, ExecLogin)  # type: ignore[index]
