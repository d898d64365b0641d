"""Nothing that comes from elsewhere steers a terminal, and nothing secret is printed, by no command."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import unicodedata

import pytest
from rich.console import Console
from ruamel.yaml import YAML
from tests.integration.fake_phoenix import NEW, NOW, OLD, FakeOperations, serving

from phoenix_orch.cli import following, live, main, progress
from phoenix_orch.client import Client
from phoenix_orch.orchestrator.views import LogLine, LogPage
from phoenix_orch.rollout.status import Event, State

CANARY = "s3cr3tCanary"
EVIL = f"\x1b[31mred\x1b]0;title\x07\n\r\x9b2J\u202egnp\u2028\x00\x7fend http://u:{CANARY}@h/?t={CANARY}"


class Evil(FakeOperations):
    """Every word that comes from elsewhere steers a terminal, as one may in a store that is old."""

    def __init__(self):
        super().__init__()
        self.pictures = [self._evil(picture) for picture in self.pictures]

    def _evil(self, picture):
        rollout = picture.rollout
        status = rollout.status.model_copy(update={"message": EVIL})
        verdict = picture.verdict.model_copy(update={"reason": EVIL})
        return picture.model_copy(
            update={
                "rollout": rollout.model_copy(update={"status": status}),
                "verdict": verdict,
                "versions": {OLD: EVIL, NEW: EVIL},
            }
        )

    async def info(self):
        return {**await super().info(), "components": [{"name": EVIL, "state": EVIL}]}

    async def events(self, name, limit):
        return [Event.model_construct(at=NOW, reason=EVIL, message=EVIL, actor=EVIL)]

    async def history(self, name, limit):
        return [
            release.model_copy(update={"reason": EVIL, "version": EVIL, "cause": None})
            for release in await super().history(name, limit)
        ]

    async def revisions(self, name):
        return [
            revision.model_copy(
                update={"change_cause": EVIL, "version": EVIL, "template": {"env": {"A": EVIL}}}
            )
            for revision in await super().revisions(name)
        ]

    async def observations(self, name, since, limit):
        return [
            one.model_copy(update={"notes": (EVIL,)})
            for one in await super().observations(name, since, limit)
        ]

    async def service(self, name):
        return (await super().service(name)).model_copy(update={"version": EVIL, "route": EVIL})

    async def logs(self, name, *, instance, lines, after):
        return LogPage(lines=(LogLine(instance=EVIL, text=f"a\tb{EVIL}"),), offsets={})

    async def start(self, name, **wanted):
        return (await super().start(name, **wanted)).model_copy(update={"detail": EVIL})


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("d")
    with serving(Evil(), data_dir) as operations:
        operations.data_dir = data_dir
        yield operations


@pytest.fixture
def operations(served, monkeypatch, tmp_path):
    served.__init__()
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(served.data_dir))
    monkeypatch.setattr(following, "INTERVAL", 0.01)
    monkeypatch.chdir(tmp_path)
    return served


@pytest.fixture
def phoenix(operations, capsys):
    def run(*arguments: str) -> str:
        main.run(arguments)
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return shown.out + shown.err

    return run


def check(shown: str) -> None:
    assert shown.strip()
    assert [c for c in shown if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and c != "\n"] == []
    assert CANARY not in shown


TABLES = (
    ("get", "rollouts"),
    ("get", "services"),
    ("get", "revisions", "web"),
    ("get", "events", "web"),
    ("describe", "rollout", "web"),
    ("rollout", "status", "web"),
    ("rollout", "history", "web"),
    ("rollout", "explain", "web"),
    ("rollout", "observations", "web"),
    ("rollout", "start", "web", "--version", "3"),
    ("service", "list"),
    ("doctor",),
)


@pytest.mark.parametrize("output", ["table", "json", "yaml"])
@pytest.mark.parametrize("command", TABLES, ids=" ".join)
def test_what_is_printed_steers_nothing(phoenix, command, output):
    shown = phoenix(*command, "-o", output)
    check(shown)
    if output == "json":
        json.loads(shown)
    if output == "yaml":
        YAML(typ="safe", pure=True).load(shown)


def test_json_and_yaml_keep_what_they_escape(phoenix):
    as_json = json.loads(phoenix("get", "services", "-o", "json"))
    assert as_json == YAML(typ="safe", pure=True).load(phoenix("get", "services", "-o", "yaml"))
    assert as_json[0]["version"].startswith("\x1b[31mred\x1b]0;title\x07\n\r\x9b2J\u202egnp")


def test_a_cell_is_one_line(phoenix):
    header, *rows = phoenix("get", "events", "web").splitlines()
    assert header.startswith("TIME")
    assert len(rows) == 1


@pytest.mark.parametrize(
    "command",
    [("rollout", "observations", "web", "-o", "jsonl"), ("rollout", "pause", "web", "--reason", "x\x1b[31m")],
    ids=" ".join,
)
def test_other_outputs(phoenix, command):
    check(phoenix(*command))


def test_logs_keep_their_tabs_and_nothing_else(phoenix):
    shown = phoenix("service", "logs", "web")
    assert shown.count("\n") == 1
    assert "a\tbred" in shown
    assert not {"\x1b", "\x9b", "\u202e", "\r", "\0"} & set(shown)


@pytest.mark.parametrize("state", [State.PROMOTED, State.ROLLED_BACK])
def test_following_in_a_pipe(phoenix, operations, state):
    status = operations.pictures[0].rollout.status.model_copy(
        update={"state": state, "stable": NEW, "canary": NEW if state is State.ROLLED_BACK else None}
    )
    rollout = operations.pictures[0].rollout.model_copy(update={"status": status})
    operations.pictures.append(operations.pictures[0].model_copy(update={"rollout": rollout}))
    check(phoenix("rollout", "watch", "web"))


def test_the_live_view(operations):
    console = Console(file=io.StringIO(), force_terminal=False, width=100)
    with Client(operations.data_dir) as client:
        console.print(live.render(client.rollout("web"), clock=True))
    check(console.file.getvalue())  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "arguments",
    [
        ("rollout", "status", "a\x1b[31mb\u202e"),
        ("rollout", "\x1b[31mpause"),
        ("get", "rollouts", "-o", "\x1b[31mx"),
        ("rollout", "start", "web", "--env", CANARY),
        ("rollout", "start", "web", "--env", f"={CANARY}"),
        ("validate", "-f", "no\x1b[31m\nsuch"),
        ("rollout", "observations", "web", "--since", "\x1b[31m"),
        ("replay", "--prometheus", f"http://u:{CANARY}@127.0.0.1:9", "--canary-query", "x"),
        ("up", "--store", f"redis://u:{CANARY}@127.0.0.1:9", "--speed", "\x1b[31m"),
        ("nonsense", "\x1b[31m"),
        ("init", "no/such\x1b[31m/place"),
    ],
    ids=repr,
)
def test_errors_repeat_nothing_that_steers(phoenix, arguments):
    check(phoenix(*arguments))


def test_a_reason_that_is_too_long_is_refused_before_anything_is_asked(operations, capsys):
    for command in (
        ("rollout", "pause", "web"),
        ("rollout", "abort", "web"),
        ("rollout", "undo", "web"),
        ("rollout", "start", "web", "--version", "2"),
    ):
        assert main.run([*command, "--reason", "x" * 501]) == 2
        shown = capsys.readouterr()
        assert "501 characters" in shown.err
        assert "\n  what to do: " in shown.err
        assert len(shown.err) < 300
    assert operations.calls == []


@pytest.mark.parametrize("place", range(3))
def test_arguments_that_are_no_text_are_refused(operations, place):
    arguments = [[b"rollout", b"pause", b"w\xff"], [b"g\xff"], [b"validate", b"-f", b"\xed\xa0\x80"]][place]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "phoenix_orch.cli.main", *arguments],
        capture_output=True,
        env=os.environ,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert b"is no text in UTF-8" in done.stderr
    assert b"Traceback" not in done.stderr
    assert operations.calls == []


def test_an_error_of_phoenix_itself_tells_no_secret(operations, monkeypatch, capsys, tmp_path):
    def fail(*_: object) -> None:
        raise RuntimeError(f"\x1b[31m http://u:{CANARY}@h/ password={CANARY}")

    monkeypatch.setattr("phoenix_orch.client.client.Client.health", fail)
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(tmp_path))
    assert main.run(["get", "events", "web"]) in (1, 3)
    monkeypatch.setattr("phoenix_orch.client.client.Client.rollouts", fail)
    assert main.run(["get", "rollouts"]) == 1
    shown = capsys.readouterr()
    check(shown.err)
    (file,) = tmp_path.glob("phoenix-error-*.log")
    text = file.read_text()
    assert "RuntimeError" in text
    check(text)


def test_a_sign_of_life_tells_no_secret_and_takes_nothing_for_markup(monkeypatch):
    drawn = io.StringIO()
    drawn.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stderr", drawn)
    monkeypatch.setenv("TERM", "xterm")
    with progress.working("reading") as told:
        told(f"[bold]http://u:{CANARY}@h/ under \x1b]0;title\x07own")
    shown = drawn.getvalue()
    assert "[bold]http://<masked>@h/" in shown
    assert CANARY not in shown
    assert "title" not in shown
