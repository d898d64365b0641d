"""Commands against the real API: what they ask for, what they print, how they end."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from ruamel.yaml import YAML
from tests.integration.fake_phoenix import NEW, NOW, OLD, FakeOperations, serving, view
from tests.integration.released_route import group, in_thread, releasing
from tests.integration.test_doctor_here import findings, free_port

from phoenix_orch.cli import checks, following, main, obeying
from phoenix_orch.orchestrator.views import Fault
from phoenix_orch.rollout.status import CommandKind, State
from phoenix_orch.traffic.embedded import EmbeddedRouter
from phoenix_orch.traffic.router import TrafficSeen
from phoenix_orch.workload import state_file
from phoenix_orch.workload.spec import ServiceSpec
from phoenix_orch.workload.workload import Instance, InstanceState, WorkloadState


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("d")
    with serving(FakeOperations(), data_dir) as operations:
        operations.data_dir = data_dir
        yield operations


@pytest.fixture
def operations(served, monkeypatch):
    served.__init__()
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(served.data_dir))
    monkeypatch.setattr(following, "INTERVAL", 0.01)
    return served


@pytest.fixture
def phoenix(operations, capsys):
    def run(*arguments, status=0):
        assert main.run(arguments) == status
        shown = capsys.readouterr()
        assert shown.err == "", shown.err
        return shown.out

    return run


def test_everything_that_lists_or_describes_has_three_outputs(phoenix):
    for arguments, count in (
        (("get", "rollouts"), 1),
        (("get", "rollouts", "web"), 1),
        (("get", "services"), 1),
        (("get", "revisions", "web"), 2),
        (("get", "events"), 2),
        (("service", "list"), 1),
        (("rollout", "history", "web"), 2),
        (("describe", "rollout", "web"), None),
        (("describe", "rollouts", "web"), None),
        (("rollout", "status", "web"), None),
        (("rollout", "explain", "web"), None),
        (("version",), None),
    ):
        as_json = json.loads(phoenix(*arguments, "-o", "json"))
        assert YAML(typ="safe", pure=True).load(phoenix(*arguments, "--output", "yaml")) == as_json
        assert phoenix(*arguments).strip()
        if count is not None:
            assert len(as_json) == count


def test_describe_has_events_and_revisions_beside_the_view(phoenix):
    found = json.loads(phoenix("describe", "rollout", "web", "-o", "json"))
    assert found["rollout"]["status"]["state"] == "Progressing"
    assert [event["reason"] for event in found["events"]] == ["Started", "WeightSeen"]
    assert [revision["number"] for revision in found["revisions"]] == [1, 2]


def test_commands_ask_for_what_was_typed(phoenix, operations):
    phoenix("rollout", "start", "web", "--version", "2", "--env", "A=b=c", "--env", "D=", "--reason", "why")
    phoenix("rollout", "start", "web", "--command", "app --name 'a b' {port}")
    phoenix("rollout", "undo", "web", "--to-revision", "1", "--reason", "why")
    phoenix("rollout", "pause", "web", "--reason", "lunch")
    phoenix("rollout", "promote", "web")
    phoenix("rollout", "promote", "web", "--full", "--step", "1")
    phoenix("rollout", "abort", "web", "--reason", "bad")
    phoenix("service", "restart", "web")
    me = operations.calls[0][3]
    nothing = {"version": None, "env": None, "command": None, "change_cause": ""}
    nothing |= {"even_if_unattainable": False, "override_freeze": False}
    assert operations.calls == [
        (
            "start",
            "web",
            nothing
            | {
                "version": "2",
                "env": {"A": "b=c", "D": ""},
                "change_cause": "why",
                "even_if_unattainable": False,
                "override_freeze": False,
            },
            me,
        ),
        ("start", "web", nothing | {"command": ("app", "--name", "a b", "{port}")}, me),
        ("undo", "web", 1, me, "why"),
        ("command", "web", CommandKind.PAUSE, me, "lunch"),
        ("command", "web", CommandKind.PROMOTE, me, ""),
        ("command", "web", CommandKind.PROMOTE_FULL, me, ""),
        ("command", "web", CommandKind.ABORT, me, "bad"),
        ("restart", "web", me),
    ]


def test_apply_sends_the_whole_file(phoenix, operations, tmp_path):
    path = tmp_path / "phoenix.yaml"
    path.write_text("services: {web: {command: 'a {port}'}}\nroutes: {web: {service: web}}\n")
    assert "CHANGED  TARGET" in phoenix("apply", "-f", str(path))
    ((_, config, _),) = operations.calls
    assert config.services["web"].cwd == str(tmp_path)
    assert config.services["web"].command == ("a", "{port}")


@pytest.mark.parametrize(
    "arguments",
    [
        ("rollout", "start", "web", "--version", "2"),
        ("rollout", "undo", "web"),
        ("rollout", "pause", "web"),
        ("rollout", "promote", "web", "--full"),
        ("rollout", "abort", "web"),
        ("service", "restart", "web"),
    ],
)
def test_a_dry_run_changes_nothing_and_says_would(phoenix, operations, arguments):
    assert "would" in phoenix(*arguments, "--dry-run").lower()
    assert operations.calls == []


@pytest.mark.parametrize(
    ("state", "status"),
    [(State.IDLE, 0), (State.PROMOTED, 0), (State.PROGRESSING, 0), (State.ROLLED_BACK, 4)],
)
def test_status_ends_as_the_release_did(phoenix, operations, state, status):
    operations.pictures = [view(state, stable=NEW) if state is State.IDLE else view(state)]
    assert phoenix("rollout", "status", "web", status=status).startswith(f"web: {state.value}")


def test_waiting_ends_with_the_release_or_the_time(phoenix, operations):
    operations.pictures = [view(), view(step=1), view(State.PROMOTED)]
    assert (
        phoenix("rollout", "status", "web", "--wait").splitlines()[-2] == "web: Promoted, Promoted at step 1"
    )
    operations.pictures = [view(), view(State.ROLLED_BACK)]
    phoenix("rollout", "status", "web", "--wait", status=4)
    operations.pictures = [view()]
    phoenix("rollout", "status", "web", "--wait", "--timeout", "50ms", status=5)
    operations.pictures = [view(), view(State.PROMOTED)]
    found = json.loads(phoenix("rollout", "status", "web", "--wait", "-o", "json"))
    assert found["rollout"]["status"]["state"] == "Promoted"


def test_start_can_be_watched_to_its_end(phoenix, operations):
    operations.pictures = [view(State.IDLE, stable=OLD), view(), view(State.ROLLED_BACK)]
    shown = phoenix("rollout", "start", "web", "--version", "2", "--watch", status=4)
    assert "rolled back by verdict" in shown.splitlines()[-1]


def test_explain_tells_the_numbers_of_a_rollback(phoenix, operations):
    operations.pictures = [view(State.ROLLED_BACK)]
    shown = phoenix("rollout", "explain", "web")
    assert "verdict: errors 3.1% are above the limit of 0.1%" in shown
    assert "!   error rate   3.1 %" in shown
    assert "phoenix rollout retry web" in shown


def test_logs_of_all_and_of_one(phoenix):
    assert phoenix("service", "logs", "web", "--lines", "1") == f"web-{OLD}-1  line 3\n"
    assert phoenix("service", "logs", "web", "--lines", "1", "--instance", f"web-{OLD}-1") == "line 3\n"


def test_logs_without_the_name_of_who_wrote_them(phoenix):
    assert phoenix("service", "logs", "web", "--lines", "2", "--raw") == "line 2\nline 3\n"


def test_logs_are_read_from_the_files_where_phoenix_does_not_run(phoenix, tmp_path):
    logs = tmp_path / "services" / "web" / "logs"
    logs.mkdir(parents=True)
    (logs / "web-1111111111-1.log").write_text("2026-03-01T12:00:01Z one\n2026-03-01T12:00:03Z three\n")
    (logs / "web-1111111111-2.log").write_text("2026-03-01T12:00:02Z two\n")
    (logs / "web-0000000000-0.log").write_text("2026-03-01T12:00:09Z of one that has ended\n")
    living = [
        Instance(
            name=f"web-1111111111-{number}", revision="1111111111", state=InstanceState.READY, port=20_000
        )
        for number in (1, 2)
    ]
    spec = ServiceSpec(version="1", command=("true", "{port}"), health={"path": "/"})
    state = WorkloadState(service="web", at=NOW, wanted={}, instances=tuple(living))
    state_file.write(
        state_file.Layout(tmp_path, "web").state, state_file.ServiceRecord(spec=spec, state=state)
    )
    where = ("--data-dir", str(tmp_path))
    assert phoenix("service", "logs", "web", "--lines", "2", *where) == (
        "web-1111111111-2  2026-03-01T12:00:02Z two\nweb-1111111111-1  2026-03-01T12:00:03Z three\n"
    )
    none = state.model_copy(update={"instances": ()})
    state_file.write(
        state_file.Layout(tmp_path, "web").state, state_file.ServiceRecord(spec=spec, state=none)
    )
    last_words = phoenix("service", "logs", "web", "--lines", "1", "--raw", *where)
    assert last_words == "2026-03-01T12:00:09Z of one that has ended\n"
    ended = phoenix("service", "logs", "web", "--instance", "web-0000000000-0", *where)
    assert ended == "2026-03-01T12:00:09Z of one that has ended\n"


def program(*arguments, **more):
    code = "from phoenix_orch.cli.main import main; main()"
    return subprocess.Popen([sys.executable, "-c", code, *arguments], **more)


@pytest.mark.usefixtures("operations")
def test_following_logs_ends_with_ctrl_c():
    process = program(
        "service", "logs", "web", "-f", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(5)]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert lines[3] == lines[4] == f"web-{OLD}-1  new line\n"
    assert (process.returncode, errors) == (130, "")


def on_a_terminal(*arguments, until):
    """Run on a pseudo-terminal of 100 by 30; gives what was drawn when `until` appeared, and the status."""
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    process = program(*arguments, stdout=child, stderr=child, stdin=child, env=environment)
    os.close(child)
    drawn, end = b"", time.monotonic() + 30
    try:
        while until not in drawn and time.monotonic() < end:
            if select.select([parent], [], [], 0.1)[0]:
                drawn += os.read(parent, 65536)
        process.send_signal(signal.SIGINT)
        return drawn.decode(), process.wait(20)
    finally:
        os.close(parent)


@pytest.mark.usefixtures("operations")
def test_a_terminal_gets_a_live_view_and_ctrl_c_gives_it_back():
    drawn, status = on_a_terminal("rollout", "watch", "web", until=b"stable 46.1 ms")
    assert "\x1b[" in drawn
    assert "▶ initial 5%" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn)
    assert status == 130


@pytest.mark.usefixtures("operations")
def test_no_color_is_respected(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    drawn, _ = on_a_terminal("rollout", "watch", "web", until=b"stable 46.1 ms")
    assert "\x1b[31m" not in drawn
    assert "\x1b[1;36m" not in drawn
    assert "▶ initial 5%" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn)


def sized(terminal, columns, lines):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))


@pytest.mark.usefixtures("operations")
def test_a_terminal_of_any_size_gets_what_matters_most():
    parent, child = pty.openpty()
    sized(parent, 20, 5)
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    environment["TERM"] = "xterm-256color"
    process = program("rollout", "watch", "web", stdout=child, stderr=child, stdin=child, env=environment)
    os.close(child)

    def drawn_until(words: bytes) -> str:
        drawn, end = b"", time.monotonic() + 30
        while words not in drawn and time.monotonic() < end:
            if select.select([parent], [], [], 0.1)[0]:
                drawn += os.read(parent, 65536)
        assert words in drawn, drawn
        return drawn.decode()

    try:
        frame = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn_until(b"left"))
        lines = [line.rstrip("\r") for line in frame.split("\n")]
        assert len(lines) <= 5
        assert all(len(line) <= 20 for line in lines)
        assert lines[0].startswith("web Progressing 5%")
        assert lines[1].startswith("verdict continue")
        sized(parent, 100, 30)
        os.kill(process.pid, signal.SIGWINCH)
        assert "\x1b[2J" in drawn_until(b"stable 46.1 ms"), "what the old size left is cleared"
        for columns, rows in ((1, 1), (3, 200), (200, 2)):
            sized(parent, columns, rows)
            os.kill(process.pid, signal.SIGWINCH)
            drawn_until(b"\x1b[2J")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    finally:
        process.kill()
        process.wait()
        os.close(parent)


# -- what came of a word ---------------------------------------------------------------------------


def taking_back(latched: bool, seen: int | None, *, faults=(), **status):
    """A picture in the middle of a rollback of the canary."""
    picture = view(State.ROLLING_BACK, **status)
    return picture.model_copy(
        update={
            "traffic": picture.traffic.model_copy(update={"aborted": (NEW,) if latched else ()}),
            "seen": TrafficSeen(weight=seen, canary_revision=NEW, stable_revision=OLD),
            "faults": faults,
        }
    )


def test_an_abort_waits_until_the_router_is_seen_to_follow(phoenix, operations):
    obeyed = {"handled": ("x",)}
    operations.obeys = False
    operations.pictures = [
        view(),
        taking_back(False, 5, **obeyed),
        taking_back(True, 5, **obeyed),
        taking_back(True, 0, **obeyed),
    ]
    said = phoenix("rollout", "abort", "web")
    assert f"revision {NEW} is latched; the router sends it nothing, and everything to revision {OLD}" in said
    assert len(operations.pictures) == 1, "not before the last of them"


@pytest.mark.parametrize(
    ("latched", "seen", "faults", "said"),
    [
        (True, 5, (), f"revision {NEW} is latched, it still gets 5 % of the requests"),
        (True, None, (), f"revision {NEW} is latched, the router does not say whether it gets requests"),
        (
            False,
            5,
            (Fault(at="abort", message="the disk is full", remedy="free some space"),),
            f"revision {NEW} is not latched, it still gets 5 % of the requests; the disk is full",
        ),
    ],
)
def test_an_abort_that_is_not_done_is_not_called_done(operations, capsys, latched, seen, faults, said):
    operations.obeys = False
    operations.pictures = [view(), taking_back(latched, seen, faults=faults, handled=("x",))]
    assert main.run(["rollout", "abort", "web", "--timeout", "300ms", "-o", "json"]) == 1
    shown = capsys.readouterr()
    assert said in shown.err
    assert "what to do: " in shown.err
    told = json.loads(shown.out)
    assert (told["done"], told["latched"], told["seen"]) == (False, latched, seen)
    assert told["problem"] in shown.err


async def test_a_phoenix_that_took_the_word_and_does_nothing_is_gone_past(operations, capsys):
    """Its API answers, its controller hangs."""
    operations.obeys = False
    operations.pictures = [view()]
    groups = {"stable": group(OLD), "canary": group(NEW)}
    await releasing(operations.data_dir, **groups)
    try:
        assert await in_thread(main.run, ["rollout", "abort", "web", "--timeout", "3s"]) == 1
        shown = capsys.readouterr()
        assert "Phoenix has not done it within 2 s; the traffic object was changed directly" in shown.err
        state = await EmbeddedRouter(operations.data_dir / "router").read("web")
        assert (state.weight, state.aborted) == (0, (NEW,))
    finally:
        shutil.rmtree(operations.data_dir / "router")


def test_an_abort_that_came_too_late_is_refused_and_not_called_done(operations, capsys):
    operations.obeys = False
    operations.pictures = [view(), view(State.PROMOTED, handled=("x",), message="it was promoted meanwhile")]
    assert main.run(["rollout", "abort", "web"]) == 2
    shown = capsys.readouterr()
    assert "web was not taken back: it was promoted meanwhile" in shown.err
    assert shown.out == ""


def test_an_abort_of_what_is_being_taken_back_waits_for_it(operations, capsys):
    operations.pictures = [taking_back(True, 0)]
    assert main.run(["rollout", "abort", "web"]) == 0
    shown = capsys.readouterr()
    assert "web is being taken back already" in shown.err
    assert "is latched; the router sends it nothing" in shown.out
    assert operations.calls == []


@pytest.mark.parametrize("word", ["pause", "promote"])
def test_a_word_that_is_not_obeyed_yet_is_not_called_done(phoenix, operations, monkeypatch, word):
    monkeypatch.setattr(obeying, "PATIENCE", 0.2)
    operations.obeys = False
    fault = Fault(at="store", message="the store does not answer")
    operations.pictures = [view().model_copy(update={"faults": (fault,)})]
    said = phoenix("rollout", word, "web")
    assert said.startswith(f"{word} web: accepted, and not obeyed yet: the store does not answer; ")
    assert "phoenix rollout status web" in said


def test_a_word_that_came_too_late_is_refused_with_the_reason(operations, capsys):
    operations.refuses = "promote: there is no step to skip; the state is Baking"
    assert main.run(["rollout", "promote", "web"]) == 2
    shown = capsys.readouterr()
    assert "cannot promote web: there is no step to skip; the state is Baking" in shown.err
    assert shown.out == ""


# -- completion ------------------------------------------------------------------------------------

TRY = """
source <(phoenix completion bash)
function_of=$(complete -p phoenix | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
"$function_of" phoenix
echo "${COMPREPLY[*]}"
"""


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("rollout", "sta"), "start status"),
        (("rollout", "status", ""), "web"),
        (("rollout", "promote", "w"), "web"),
        (("get", "services", ""), "web"),
        (("service", "logs", "x"), ""),
        (("rollout", "status", "web", "-o", ""), "table json yaml"),
        (("serve", "he"), "health-validator"),
    ],
)
def test_bash_completes_commands_names_and_choices(operations, tmp_path, words, offered):
    program = tmp_path / "phoenix"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m phoenix_orch "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", TRY, "bash", "phoenix", *words],
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == (offered.split(), "")


def test_doctor_knows_a_running_phoenix_and_its_faults(operations, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "phoenix.yaml").write_text(f"services: {{}}\nrouter: {{listen: {free_port()}}}\n")
    found = findings(operations.data_dir)
    assert found["phoenix"].detail == "0.1.0 runs, pid 4711, speed 1.0"
    assert found["store"].state is checks.State.OK
    assert (found["router"].state, found["router"].detail) == (
        checks.State.FAULT,
        "down: exited with 1, starts again in 2 s",
    )
    assert main.run(["doctor"]) == 1
    assert "1 fault, no warnings" in capsys.readouterr().out
