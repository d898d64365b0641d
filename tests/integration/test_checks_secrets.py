"""What a check is given of Phoenix's environment, and what of its output is told."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta

import httpx
import pytest
from tests.integration.test_checks import response, server

from phoenix_orch.kernel.clock import RealClock
from phoenix_orch.kernel.secrets import Secrets, secrets_of
from phoenix_orch.rollback_controller.checks import (
    OUTPUT_KEPT,
    CheckRunner,
    Route,
    Surroundings,
    command_failure,
    http_failure,
    surroundings,
)
from phoenix_orch.rollout.spec import Check, CommandCheck, HttpCheck, RolloutSpec
from phoenix_orch.rollout.status import Rollout
from phoenix_orch.workload.spec import Template

pytestmark = pytest.mark.anyio

CANARY = "s3cr3tCanary"
KNOWN = Secrets(secrets_of({"DB_PASSWORD": CANARY}))


async def said(text: str, secrets: Secrets | None = KNOWN) -> str:
    """How the failure of a program is told that prints `text`."""
    script = f"import sys; sys.stdout.write({text!r}); sys.exit(1)"
    check = CommandCheck(command=(sys.executable, "-c", script))
    return await command_failure(check, {}, limit=10, secrets=secrets) or ""


async def test_a_program_gets_a_minimal_environment(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    monkeypatch.setenv("PHOENIX_PROMETHEUS_TOKEN", CANARY)
    monkeypatch.setenv("PHOENIX_DATA_DIR", "/elsewhere")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("LANG", "C.UTF-8")
    out = tmp_path / "env.json"
    script = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))"
    command = CommandCheck(
        command=(sys.executable, "-c", script, str(out)),
        env={"TOKEN": "mine", "BASE": "{canary}/api", "TZ": "Europe/Berlin"},
    )
    rollout = Rollout(name="web", service="shop", route="web", target="1234567890")
    template = Template(version="2", command=("app", "{port}"), env={"DB": CANARY})
    changed = asyncio.Event()
    runner = CheckRunner(
        [Check(name="a", exec=command, interval=timedelta(milliseconds=20), timeout=timedelta(seconds=20))],
        RealClock(),
        targets=lambda: ["http://127.0.0.1:1"],
        route=lambda: Route("http://127.0.0.1:2", "shop.example.com"),
        changed=changed.set,
        surroundings=lambda: surroundings(rollout, "1234567890", template),
    )
    try:
        async with asyncio.timeout(30):
            while not (out.exists() and out.read_text().endswith("}")):
                await asyncio.sleep(0.01)
    finally:
        await runner.stop()
    found = json.loads(out.read_text())
    for own in ("PATH", "HOME", "TMPDIR", "LC_CTYPE", "PWD", "SHLVL", "_"):
        found.pop(own, None)
    assert found == {
        "LANG": "C.UTF-8",
        "TZ": "Europe/Berlin",
        "TOKEN": "mine",
        "BASE": "http://127.0.0.1:1/api",
        "PHOENIX_SERVICE": "shop",
        "PHOENIX_REVISION": "1234567890",
        "PHOENIX_VERSION": "2",
        "PHOENIX_CANARY_URL": "http://127.0.0.1:1",
        "PHOENIX_ROUTE_URL": "http://127.0.0.1:2",
        "PHOENIX_ROUTE_HOST": "shop.example.com",
    }


async def test_output_is_told_without_secrets_and_controls() -> None:
    shown = await said(
        f"\x1b[31mlogin of {CANARY}\x1b[0m\nfailed\x07, password=hunter2 at http://u:x@h/?t=1\n"
    )
    assert shown == (
        f"{sys.executable}: exit status 1: login of <masked> failed\ufffd, password=<masked> "
        "at http://<masked>@h/?t=<masked>"
    )


async def test_a_secret_is_not_cut_in_two_by_any_end() -> None:
    for length in (150, 195, 200, 205, OUTPUT_KEPT - 5, OUTPUT_KEPT, OUTPUT_KEPT + 5):
        shown = await said("x " * (length // 2) + CANARY + " " + "y" * 190)
        assert not [n for n in range(4, len(CANARY)) if CANARY[-n:] in shown or CANARY[:n] in shown]
    shown = await said((CANARY + " ") * 3000)
    assert CANARY[-4:] not in shown


async def test_output_is_not_told_while_nobody_knows_what_is_secret_in_it() -> None:
    assert await said(f"hello {CANARY}", secrets=None) == (
        f"{sys.executable}: exit status 1; its output is not shown while the store is away"
    )
    assert await said("", secrets=None) == f"{sys.executable}: exit status 1"


async def test_what_is_secret_comes_from_the_service_and_from_all_checks() -> None:
    spec = RolloutSpec.model_validate(
        {
            "checks": [
                {"name": "a", "http": {"url": "http://me:hunter1@h/?token=hunter2"}},
                {
                    "name": "b",
                    "exec": {"command": ["x", "--password", "hunter3"], "env": {"K_TOKEN": "hunter4"}},
                },
            ],
            "verify": {"criticalPaths": [{"name": "p", "http": {"url": "{route}/?key=hunter5"}}]},
        }
    )
    rollout = Rollout(name="web", service="web", route="web", target="r", spec=spec)
    template = Template(
        command=("app", "{port}", "--secret=hunter6"), env={"DB": "hunter7-and-more", "PIN": "hunter8"}
    )
    known = surroundings(rollout, "r", template).secrets
    assert known is not None
    text = " ".join(f"hunter{n}" for n in (1, 2, 3, 4, 5, 6, 8)) + " hunter7-and-more"
    assert known.harmless(text) == " ".join(["<masked>"] * 8)
    assert surroundings(rollout, "r", None) == Surroundings(
        {"PHOENIX_SERVICE": "web", "PHOENIX_REVISION": "r"}, None
    )


@pytest.mark.parametrize("answer", [response(503), response(200, "sorry"), b"garbage\r\n\r\n", None])
async def test_no_failure_of_a_request_tells_what_is_secret_in_its_address(answer) -> None:
    async with server(answer) as base, httpx.AsyncClient() as client:
        url = base.replace("http://", f"http://user:{CANARY}@") + f"/x?token={CANARY}"
        shown = await http_failure(client, HttpCheck(url=url, contains="well"), url, limit=0.5)
        assert shown is not None
        assert CANARY not in shown
        assert shown.startswith(base.replace("http://", "http://<masked>@") + "/x?token=<masked>: ")


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{CANARY}/more@127.0.0.1:1/",
        f"http://user:{CANARY}@[::1/",
        f"http://{CANARY}:x@127.0.0.1:99999/",
        f"http://127.0.0.1:1/?t={CANARY}",
        f"http://u:{CANARY}\x00@127.0.0.1:1/",
        f"http://u:{CANARY}%zz@127.0.0.1:1/",
    ],
)
async def test_an_address_that_leads_nowhere_is_told_without_it(url) -> None:
    async with httpx.AsyncClient() as client:
        shown = await http_failure(client, HttpCheck.model_construct(url=url), url, limit=5)
    assert shown is not None
    assert CANARY not in shown


async def test_the_program_itself_is_named_without_secrets() -> None:
    check = CommandCheck(command=(f"http://u:{CANARY}@h/\x1b[31m",))
    shown = await command_failure(check, {}, limit=1, secrets=KNOWN)
    assert shown is not None
    assert CANARY not in shown
    assert "\x1b" not in shown
