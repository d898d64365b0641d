"""What a command prints goes nowhere: a full disk is told in words, a closed pipe and Ctrl-C end quietly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli_commands import EVERY
from tests.integration.fake_phoenix import FakeOperations, serving
from tests.integration.test_failed_starts import free_port

from phoenix_orch.cli import main, output
from phoenix_orch.cli.streams import remembering

FULL = Path("/dev/full")
PHOENIX = (sys.executable, "-P", "-m", "phoenix_orch")
WORDS = (
    ("--version",),
    ("version",),
    ("version", "-o", "yaml"),
    ("--help",),
    ("schema",),
    ("crd",),
    ("completion", "bash"),
    ("get", "rollouts"),
    ("get", "config", "-o", "json"),
    ("rollout", "status", "web"),
    ("rollout", "watch", "web"),
    ("rollout", "explain", "web"),
    ("rollout", "observations", "web"),
    ("rollout", "pause", "web"),
    ("service", "logs", "web"),
    ("top",),
    ("freeze", "list"),
    ("doctor",),
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    where = tmp_path_factory.mktemp("d")
    with serving(FakeOperations(), where):
        yield where


@pytest.fixture(params=["buffered", "unbuffered"])
def environment(request: pytest.FixtureRequest, data_dir: Path) -> dict[str, str]:
    found = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    more = {"PYTHONUNBUFFERED": "1"} if request.param == "unbuffered" else {}
    return found | more | {"PHOENIX_DATA_DIR": str(data_dir)}


def run(words: tuple[str, ...], environment: dict[str, str], **streams: object) -> tuple[int, str]:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    done = subprocess.run(
        [*PHOENIX, *words],
        env=environment,
        encoding="utf-8",
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        **streams,  # type: ignore[call-overload]
    )
    return done.returncode, done.stderr or ""


TOLD = "error: standard output cannot be written: no space left on device\n  what to do: make room"


@pytest.mark.parametrize("words", [("--version",), ("get", "rollouts"), ("schema",)], ids=" ".join)
def test_a_full_disk_is_told_in_words(words: tuple[str, ...], environment: dict[str, str]) -> None:
    with FULL.open("w") as full:
        status, said = run(words, environment, stdout=full)
    assert said.startswith(TOLD)
    assert len(said.splitlines()) == 2
    assert status == main.FAILED


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_by_whatever_prints_something(words, data_dir, monkeypatch, capsys):
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(data_dir))
    with FULL.open("w") as full, monkeypatch.context() as patched:
        patched.setattr("sys.stdout", remembering(full))
        assert main.run(words) == main.FAILED
    assert capsys.readouterr().err.startswith(TOLD)


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_no_help_of_any_command_is_unexpected(path, monkeypatch, capsys):
    with FULL.open("w") as full, monkeypatch.context() as patched:
        patched.setattr("sys.stdout", remembering(full))
        assert main.run([*path, "--help"]) == main.FAILED
    shown = capsys.readouterr().err
    assert shown.startswith("error: standard output cannot be written")
    assert "unexpected" not in shown


def test_an_error_that_has_no_room_keeps_its_status(environment: dict[str, str]) -> None:
    with FULL.open("w") as full:
        assert run(("rollout", "status", "nobody"), environment, stderr=full)[0] == main.BAD_INPUT


@pytest.mark.parametrize("words", [("get", "rollouts"), ("rollout", "status", "nobody")], ids=" ".join)
def test_streams_that_were_closed_before_the_start(
    words: tuple[str, ...], environment: dict[str, str]
) -> None:
    status, _ = run(words, environment)
    done = subprocess.run(
        ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *PHOENIX, *words], env=environment, timeout=60, check=False
    )
    assert done.returncode == status


@pytest.mark.parametrize(
    "words", [("version",), ("get", "rollouts"), ("rollout", "watch", "web")], ids=" ".join
)
def test_a_reader_that_leaves_ends_it_quietly(words: tuple[str, ...], environment: dict[str, str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        status, said = run(words, environment, stdout=writer)
    finally:
        os.close(writer)
    assert (status, said) == (0, "")


def test_a_word_on_the_way_ends_no_act() -> None:
    full = FULL.open("w")
    output.tell("the server takes writes again", to=full)
    with pytest.raises(OSError, match="No space left"):
        output.say("done", to=full)
    with pytest.raises(OSError, match="No space left"):
        full.close()


def test_what_the_machine_refuses_is_no_fault_of_phoenix(monkeypatch, capsys):
    def refused() -> None:
        raise PermissionError(13, "Permission denied", "/etc/there")

    monkeypatch.setattr("phoenix_orch.cli.version.version", refused)
    assert main.run(["version"]) == main.FAILED
    shown = capsys.readouterr().err
    assert shown.startswith("error: /etc/there: permission denied\n  what to do: ")


# -- Ctrl-C ----------------------------------------------------------------------------------------

LONG = {
    "watch": (("rollout", "watch", "web"), "Progressing"),
    "status --wait": (("rollout", "status", "web", "--wait"), "Progressing"),
    "logs --follow": (("service", "logs", "web", "--follow"), "line"),
    "replay of a pipe": (("replay", "-"), None),
    "apply of a pipe": (("apply", "-f", "-"), None),
    "up": (("up", "-f", "services.yaml", "--no-listen"), "component=rollback-controller"),
}


@pytest.mark.parametrize("case", LONG)
def test_ctrl_c_ends_what_is_long(case, data_dir, tmp_path):
    words, sign = LONG[case]
    (tmp_path / "services.yaml").write_text(
        f"services: {{}}\nrouter: {{listen: '127.0.0.1:{free_port()}'}}\n"
    )
    more = {"PHOENIX_DATA_DIR": str(tmp_path / "d")} if case == "up" else {}
    process = subprocess.Popen(
        [*PHOENIX, *words],
        env={**os.environ, "PHOENIX_DATA_DIR": str(data_dir), **more},
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    said = ""
    assert process.stdout is not None
    while sign is not None and sign not in said:
        line = process.stdout.readline()
        assert line, f"it ended by itself: {said}"
        said += line
    if sign is None:
        _until_it_sleeps(process.pid)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == main.INTERRUPTED, said + rest
    assert "Traceback" not in said + rest


def _until_it_sleeps(pid: int) -> None:
    """It has imported what it needs and waits."""
    quiet = 0
    while quiet < 5:
        before = _ticks(pid)
        time.sleep(0.1)
        quiet = quiet + 1 if _ticks(pid) - before <= 1 and before > 20 else 0


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
