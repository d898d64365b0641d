"""A secret in an environment, in addresses of checks and in what a check prints: it is seen nowhere.

A whole Phoenix runs with it, a release is taken back because of the check, another one is promoted and
undone, and every command, every address of the API, the log, the history and the files are searched.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from tests.faults.story import NAME, Story, configuration, until
from tests.integration.fake_phoenix import text_of

from phoenix_orch.api.server import create_app
from phoenix_orch.cli.root import command_tree
from phoenix_orch.orchestrator.operations_port import Operations
from phoenix_orch.rollout.status import State

pytestmark = [pytest.mark.timeout(400), pytest.mark.slow]

CANARY = "s3cr3tCanary7f3a"
ENV = {"DB_PASSWORD": CANARY, "SETTING": f"{CANARY}-setting", "DATABASE_URL": f"postgres://me:{CANARY}@db/x"}
TALK = (
    "import os, sys; print(dict(os.environ), '\\x1b[31mlogin with', os.environ['API_TOKEN'], 'refused'); "
    "sys.exit(1)"
)
FAILING = {
    "name": "talks",
    "exec": {"command": [sys.executable, "-c", TALK, "--password", CANARY], "env": {"API_TOKEN": CANARY}},
    "interval": "5s",
    "timeout": "10m",
    "threshold": 1,
}


def settings(*checks: object, version: str = "1", port: int = 1) -> dict[str, object]:
    """Nobody answers on port 1."""
    address = f"http://user:{CANARY}@127.0.0.1:{port}/?token={CANARY}"
    return {
        "service": {"env": ENV, "version": version},
        "rollout": {
            "checks": [*checks, {"name": "far", "http": {"url": address}, "threshold": 100}],
            "verify": {
                "window": "10s",
                "logs": {"bad": ["panic"]},
                "criticalPaths": [{"name": "login", "http": {"url": address}}],
            },
        },
    }


@pytest.fixture(scope="module")
def told() -> Iterator[Story]:
    """A Phoenix in which release 1 was taken back by its check, release 2 promoted, and then undone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOUD_SECRET_KEY", f"{CANARY}-cloud")  # of Phoenix itself, and of nobody else
        made = Story(settings=settings(FAILING))
        with made:
            _live_through_it(made)
            yield made


def _live_through_it(made: Story) -> None:
    made.client.start(NAME, version="2", env={"EXTRA_SECRET": f"{CANARY}-extra"}, change_cause="why not")
    made.until_state(State.ROLLED_BACK)
    made.until_view("verified", lambda view: view.rollout.status.verification is not None)
    described = configuration(made.port, **settings(version="3", port=made.port))
    made.file.write_text(json.dumps({**described, "backup": backed_up(made)}))
    assert made.cli("apply", "-f", str(made.file)).returncode == 0
    made.until_state(State.PROMOTED, State.BAKING)
    made.until_state(State.PROMOTED)
    made.client.undo(NAME, to_revision=1, reason=f"see http://u:{CANARY}@h/")
    made.until_view(
        "the first revision is back",
        lambda view: (
            view.rollout.status.state is State.PROMOTED
            and view.versions[view.rollout.status.stable or ""] == "1"
            and view.workload is not None
            and {one.revision for one in view.workload.instances} == {view.rollout.status.stable}
        ),
    )


def backed_up(made: Story) -> dict[str, object]:
    """The section `backup`, with keys of its own; nobody answers as Redis, and nobody hears the ping."""
    keys = made.directory / "keys"
    said = made.cli(
        *("keys", "init", "--online-file", str(keys / "online.key")),
        *("--recovery-file", str(keys / "recovery.key"), "-o", "json"),
    )
    assert said.returncode == 0, said.stderr
    return {
        "storage": {"folder": str(made.directory / "backups")},
        "recipients": [
            {name: one[name] for name in ("name", "key", "offline")} for one in json.loads(said.stdout)
        ],
        "identityFile": str(keys / "online.key"),
        "redis": {"cache": {"address": "127.0.0.1:1", "passwordEnv": "CLOUD_SECRET_KEY"}},
        "ping": f"http://u:{CANARY}@127.0.0.1:1/?token={CANARY}",
    }


def leaves(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command that can be typed."""
    context = command.make_context("phoenix", [], resilient_parsing=True)  # type: ignore[attr-defined]
    if not hasattr(command, "list_commands"):
        yield path
        return
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if not found.hidden:
            yield from leaves(found, (*path, name))


def test_the_secret_is_really_there(told: Story) -> None:
    """Undo has started what it started the first time: the store has kept the values."""
    workload = told.client.service(NAME).workload
    assert workload is not None
    for instance in workload.instances:
        environment = Path(f"/proc/{instance.pid}/environ").read_bytes().decode().split("\0")
        assert f"DB_PASSWORD={CANARY}" in environment
        assert not [line for line in environment if "cloud" in line]
    (release,) = told.release(told_release(told, "2"))
    assert release.cause is not None
    assert release.cause.trigger == "check/talks"
    assert "login with <masked> refused" in release.cause.reason


def told_release(made: Story, version: str) -> int:
    return next(one.number for one in made.client.history(NAME) if one.version == version)


LOOKS = (
    ("get", "rollouts"),
    ("get", "services"),
    ("get", "revisions", NAME),
    ("get", "events", NAME, "--limit", "1000"),
    ("get", "groups"),
    ("get", "config"),
    ("audit", "list", "--limit", "1000"),
    ("audit", "verify"),
    ("audit", "head"),
    ("audit", "prune", "--dry-run"),
    ("keys", "init", "--dry-run"),
    ("keys", "rotate", "--dry-run"),
    ("keys", "show"),
    ("keys", "check", "--dry-run"),
    ("keys", "rekey", "--all", "--reason", f"http://u:{CANARY}@h/", "--dry-run"),
    ("describe", "rollout", NAME),
    ("freeze", "list"),
    ("freeze", "start", "--reason", f"http://u:{CANARY}@h/", "--dry-run"),
    ("report", "dora"),
    ("rollout", "status", NAME),
    ("rollout", "history", NAME),
    ("rollout", "explain", NAME),
    ("rollout", "explain", NAME, "--release", "{release}"),
    ("rollout", "observations", NAME),
    ("service", "list"),
    ("validate", "-f", "{file}"),
    ("apply", "-f", "{file}", "--dry-run"),
    ("plan", "-f", "{file}", "--rps", "50"),
    ("plan", "--from", NAME),
    ("replay", "{recording}"),
    ("calibrate", NAME, "--runs", "2"),
    ("doctor",),
    ("version",),
    ("rollout", "start", NAME, "--version", "9", "--env", f"A={CANARY}", "--dry-run"),
    ("rollout", "undo", NAME, "--to-revision", "3", "--dry-run"),
    ("service", "restart", NAME, "--dry-run"),
    ("console",),
    ("task", "list"),
    ("task", "kinds"),
    ("task", "show", "{task}"),
    ("task", "run", "audit.prune", "--reason", f"http://u:{CANARY}@h/", "--dry-run"),
    ("task", "schedule", "list"),
    ("task", "schedule", "show", "{schedule}"),
    ("status-page", "write", "--directory", "{directory}/page"),
    ("token", "list"),
    ("token", "create", "ci", "--dry-run"),
    ("token", "revoke", "{token}", "--reason", f"http://u:{CANARY}@h/", "--dry-run"),
    ("approval", "list"),
    ("backup", "list"),
    ("backup", "init", "--reason", f"http://u:{CANARY}@h/", "--dry-run"),
    ("backup", "show"),
    ("backup", "run", "config", "--reason", f"http://u:{CANARY}@h/", "--dry-run"),
    ("backup", "verify"),
    ("backup", "pin", "{backup}", "--reason", f"http://u:{CANARY}@h/", "--dry-run"),
    ("backup", "unpin", "{backup}", "--dry-run"),
    ("backup", "prune", "--dry-run"),
    ("backup", "keys"),
    ("backup", "config", "log"),
    ("backup", "config", "diff"),
    ("backup", "config", "show"),
    ("restore", "status"),
    ("restore", "kept", "--folder", "{directory}", "--reason", f"http://u:{CANARY}@h/", "--dry-run"),
    ("drill", "list"),
    ("drill", "run", "daily", "--reason", f"http://u:{CANARY}@h/", "--dry-run"),
    ("verify-state",),
)
OTHERS = (
    ("audit", "export"),
    ("audit", "export", "--format", "csv"),
    ("rollout", "observations", NAME, "-o", "jsonl"),
    ("rollout", "watch", NAME),
    ("top",),
    ("rollout", "pause", NAME, "--reason", f"http://u:{CANARY}@h/"),
    ("rollout", "resume", NAME),
    ("rollout", "promote", NAME),
    ("rollout", "retry", NAME),
    ("rollout", "abort", NAME),
    ("freeze", "end", "nothing"),
    ("freeze", "override", NAME, "--reason", f"http://u:{CANARY}@h/"),
    ("service", "logs", NAME),
    ("get", "rollouts", "wbe"),
    ("init", "{directory}/new.yaml"),
    ("validate", "-f", "{broken}"),
    ("apply", "-f", "{broken}"),
    ("up", "-f", "{broken}"),
    ("up", "-f", "{file}"),
    ("down", "--dry-run"),
    ("schema",),
    ("crd",),
    ("completion", "bash"),
    ("replay", "--prometheus", f"http://u:{CANARY}@127.0.0.1:1/?t={CANARY}", "--canary-query", "up"),
    ("serve", "orchestrator", "--store", f"redis://:{CANARY}@127.0.0.1:1/0"),
    ("demo", "--only", "nothing"),
    ("task", "logs", "{task}"),
    ("task", "run", "audit.prune", "--reason", f"http://u:{CANARY}@h/", "--follow"),
    ("task", "cancel", "{task}"),
    ("task", "retry", "{task}"),
    ("task", "schedule", "pause", "{schedule}"),
    ("task", "schedule", "resume", "{schedule}"),
    ("task", "schedule", "run", "{schedule}"),
    ("token", "revoke", "{token}", "--reason", f"http://u:{CANARY}@h/"),
    ("approval", "approve", "nothing", "--reason", f"http://u:{CANARY}@h/"),
    ("approval", "refuse", "nothing", "--reason", f"http://u:{CANARY}@h/"),
    ("backup", "run", "config", "--reason", f"http://u:{CANARY}@h/"),
    ("backup", "run", "redis/cache"),
    ("backup", "run", "config", "-f", "{file}"),
    ("backup", "verify", "--level", "2"),
    ("backup", "pin", "{backup}", "--reason", f"http://u:{CANARY}@h/"),
    ("backup", "show", "{backup}"),
    ("backup", "unpin", "{backup}"),
    ("backup", "acknowledge", "{backup}", "--reason", f"http://u:{CANARY}@h/"),
    ("backup", "prune"),
    ("backup", "cat", "--to", "{directory}/config.bundle"),
    ("backup", "config", "log", "--bundle", "{directory}/config.bundle"),
    ("backup", "config", "diff", "--bundle", "{directory}/config.bundle"),
    *(("backup", "config", "show", path) for path in ("applied.yaml", "phoenix/applied.yaml")),
    ("restore", "plan", "config", "--identity", "{recovery}", "--write", "{directory}/plan.yaml"),
    (
        "restore",
        "plan",
        "redis",
        "--component",
        "redis/cache",
        "--to",
        "127.0.0.1:1",
        "--password-env",
        "CLOUD_SECRET_KEY",
        "--storage",
        "{backups}",
        "--identity",
        "{recovery}",
    ),
    (
        "restore",
        "plan",
        "volume",
        "--snapshot",
        "{broken}",
        "--id",
        "one",
        "--write",
        "{directory}/claim.yaml",
    ),
    ("restore", "run", "config", "--identity", "{recovery}", "--confirm", "0" * 12),
    ("restore", "run", "redis", "nothing", "--confirm", "0" * 12),
    (
        "restore",
        "run",
        "volume",
        "--archive",
        "{broken}",
        "--to",
        "{directory}/files",
        "--merkle-root",
        "0" * 64,
    ),
    ("restore", "run", "claim", NAME, "--old", "files", "--new", "files-2", "--kubeconfig", "{broken}"),
    ("restore", "abort", "nothing"),
    (
        *("restore", "keys", "user:*", "--component", "redis/cache", "--to", "127.0.0.1:1"),
        *("--password-env", "CLOUD_SECRET_KEY", "--storage", "{backups}", "--identity", "{recovery}"),
    ),
    ("drill", "run", "daily", "--reason", f"http://u:{CANARY}@h/"),
    ("drill", "run", "monthly", "--identity", "{recovery}", "--scratch", "{directory}/scratch"),
    ("drill", "show"),
    ("drill", "report"),
)


@pytest.fixture(scope="module")
def places(told: Story) -> dict[str, str]:
    """What commands are given."""
    recording = told.directory / "release.jsonl"
    done = told.cli("rollout", "observations", NAME, "-o", "jsonl")
    recording.write_text(done.stdout)
    taken = told.cli("backup", "run", "config")
    assert taken.returncode == 0, taken.stderr
    backups = json.loads(told.cli("backup", "list", "-o", "json").stdout)["backups"]
    made = json.loads(told.cli("token", "create", "old", "--for", "1d", "-o", "json").stdout)
    broken = told.directory / "broken.yaml"
    broken.write_text(
        f"services:\n  web:\n    env: {{DB: {CANARY}, PORT: 80}}\n    command: x --token {CANARY}\n"
    )
    return {
        "file": str(told.file),
        "recording": str(recording),
        "broken": str(broken),
        "directory": str(told.directory),
        "release": str(told_release(told, "2")),
        "task": json.loads(told.cli("task", "list", "-o", "json").stdout)[0]["id"],
        "schedule": json.loads(told.cli("task", "schedule", "list", "-o", "json").stdout)[0]["name"],
        "token": made["view"]["id"],
        "backup": backups[0]["id"],
        "backups": str(told.directory / "backups"),
        "recovery": str(told.directory / "keys" / "recovery.key"),
    }


def test_every_command_is_tried() -> None:
    tried = (*LOOKS, *OTHERS)
    missing = [path for path in leaves(command_tree()) if path not in {words[: len(path)] for words in tried}]
    assert missing == []


def run(made: Story, places: Mapping[str, str], words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """A command on the directory of Phoenix; a few commands know none."""
    words = tuple(word.format(**places) for word in words)
    done = made.cli(*words)
    if "no such option: --data-dir" not in done.stderr:
        return done
    return subprocess.run(made.command(*words), capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_no_command_shows_it(told: Story, places: dict[str, str], words: tuple[str, ...]) -> None:
    for output in ("table", "json", "yaml"):
        done = run(told, places, (*words, "-o", output))
        assert done.returncode in (0, 2), done.stderr
        assert done.stdout or done.stderr
        assert CANARY not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", OTHERS, ids=" ".join)
def test_no_other_command_shows_it(told: Story, places: dict[str, str], words: tuple[str, ...]) -> None:
    done = run(told, places, words)
    assert "Traceback" not in done.stderr
    assert done.stdout or done.stderr or words[:2] == ("service", "logs")
    assert CANARY not in done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_no_answer_of_the_api_holds_it(told: Story) -> None:
    paths = create_app(Operations).openapi()["paths"]
    transport = httpx.HTTPTransport(uds=str(told.data / "phoenix.sock"))
    with httpx.Client(transport=transport, base_url="http://phoenix") as http:
        for path, methods in paths.items():
            if "get" in methods and "{id}" not in path:  # tasks have tests of their own
                name = "audit-prune" if "/schedules/" in path else NAME
                assert CANARY not in text_of(http, path.replace("{name}", name)), path
        shown = http.get(f"/api/v1/rollouts/{NAME}/revisions").json()
        envs = [one["template"]["env"] for one in shown]
        assert envs[0] == {name: envs[2][name] for name in envs[0]}, "the same values have the same signs"
        assert all(sign.startswith("<masked:") for env in envs for sign in env.values())
        refused = http.post(f"/api/v1/rollouts/{NAME}/start", json={"env": {"A=B": CANARY, "C": 5}})
        assert refused.status_code == 422
        assert CANARY not in refused.text


def test_events_history_and_log_do_not_hold_it(told: Story) -> None:
    assert CANARY not in "".join(event.model_dump_json() for event in told.events())
    assert CANARY not in "".join(one.model_dump_json() for one in told.client.history(NAME, limit=1000))
    log = (told.directory / "phoenix.log").read_text()
    assert "check talks failed" in log
    assert CANARY not in log


def test_files_of_phoenix_hold_it_only_where_services_are_started_from(told: Story) -> None:
    """And the store, which is asked for it when a revision is started again."""
    holders = set()
    for path in told.data.rglob("*"):
        if path.is_file() and CANARY.encode() in path.read_bytes():
            holders.add(str(path.relative_to(told.data)))
    assert told.data.stat().st_mode & 0o077 == 0
    assert {name for name in holders if not name.startswith("valkey/")} <= {
        "applied.json",
        "serving.json",
        f"services/{NAME}/instances.json",
    }


def test_no_process_but_those_of_the_service_was_given_it(told: Story) -> None:
    for pid in (told.router_pid(), told.valkey_pid()):
        assert CANARY.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
        assert CANARY.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_dead_phoenix_tells_it_no_more(told: Story) -> None:
    """Last: an abort past Phoenix, and what is left."""
    told.client.start(NAME, version="8", env={"NEWER_SECRET": f"{CANARY}-newer"})
    told.until_state(State.PROGRESSING, State.STARTING, State.PAUSED)
    told.until_view("traffic", lambda view: view.traffic is not None and view.traffic.canary is not None)
    told.kill(told.phoenix.pid)
    for words in (
        ("rollout", "abort", NAME, "--reason", f"\x1b[31mleak http://u:{CANARY}@h/"),
        ("rollout", "status", NAME),
        ("doctor",),
        ("down", "--dry-run"),
    ):
        done = told.cli(*words)
        assert CANARY not in done.stdout + done.stderr
        assert "\x1b" not in done.stdout + done.stderr
    note = (told.data / "aborts" / f"{NAME}.json").read_text()
    assert CANARY not in note
    told.restart()
    until("the abort is told", lambda: [e for e in told.events() if e.reason == "AbortedByHand"])
    assert CANARY not in "".join(event.model_dump_json() for event in told.events())
    assert CANARY not in (told.directory / "phoenix.log").read_text()
