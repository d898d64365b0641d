"""The entry of the program: exit status, errors, laziness, pipes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from tests.cli_commands import EVERY

from phoenix_orch.cli import main, options, root
from phoenix_orch.kernel.errors import Invalid, Retryable, Unavailable


@pytest.fixture(autouse=True)
def own_data_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("PHOENIX_DATA_DIR", str(tmp_path))


def phoenix(*arguments, **more):
    return subprocess.run(
        [sys.executable, "-c", "from phoenix_orch.cli.main import main; main()", *arguments],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=60,
        check=False,
        **more,
    )


def test_help_is_there_for_every_command_and_names_every_command(capsys):
    assert main.run([]) == 0
    text = capsys.readouterr().out
    for name, branch in root.BRANCHES.items():
        assert f"{name} " in text
        assert branch.help in text
        assert main.run([name, "--help"]) == 0
        assert "Usage: phoenix" in capsys.readouterr().out


def test_the_version_by_option_too(capsys):
    assert main.run(["--version"]) == 0
    told = capsys.readouterr().out
    assert main.run(["version"]) == 0
    assert told == capsys.readouterr().out


@pytest.mark.parametrize("name", root.BRANCHES)
def test_first_level_helps_say_what_the_modules_say(name):
    assert root.load(name).help.split("\n\n")[0].replace("\n", " ") == root.BRANCHES[name].help


def test_every_command_of_the_contract_is_there():
    def names(name):
        return {child for child, command in root.load(name).commands.items() if not command.hidden}

    assert names("rollout") == {
        *("start", "status", "watch", "pause", "resume", "promote"),
        *("abort", "retry", "undo", "history", "explain", "observations"),
    }
    assert names("service") == {"list", "logs", "restart"}
    assert names("get") == {"rollouts", "services", "revisions", "events", "groups", "config"}
    assert names("freeze") == {"list", "start", "end", "override"}
    assert names("report") == {"dora"}
    assert names("describe") == {"rollout"}
    assert "rollouts" in root.load("describe").commands


PRINTS_NO_PICTURE = {
    ("backup", "cat"),
    ("audit", "export"),
    ("drill", "report"),
    *(("top",), ("init",), ("up",), ("down",), ("serve",), ("demo",), ("schema",), ("crd",), ("completion",)),
    *(("rollout", "watch"), ("service", "logs")),
    *(("rollout", word) for word in ("pause", "resume", "promote", "retry")),
}
CHANGES = {
    ("backup", "acknowledge"),
    ("backup", "init"),
    ("backup", "pin"),
    ("backup", "prune"),
    ("backup", "run"),
    ("backup", "unpin"),
    ("restore", "kept"),
    *(("restore", "run", what) for what in ("claim", "config", "redis", "volume")),
    ("restore", "abort"),
    *(("task", "schedule", word) for word in ("pause", "resume", "run")),
    ("drill", "run"),
    *(("audit", "prune"), ("status-page", "write")),
    *(("init",), ("down",), ("apply",), ("service", "restart")),
    *(("rollout", word) for word in ("start", "pause", "resume", "promote", "abort", "retry", "undo")),
    *(("freeze", word) for word in ("start", "end", "override")),
    *(("task", word) for word in ("run", "cancel", "retry")),
    *(("keys", word) for word in ("init", "rotate", "check", "rekey")),
    *(("token", "create"), ("token", "revoke"), ("approval", "approve"), ("approval", "refuse")),
}


@pytest.mark.parametrize("path", EVERY)
def test_every_argument_and_option_says_what_it_is(path):
    command = EVERY[path]
    assert command.help
    assert [parameter.name for parameter in command.params if not getattr(parameter, "help", "")] == []


def test_what_prints_a_picture_prints_it_for_programs_too():
    assert {path for path, one in EVERY.items() if not _has(one, "--output")} == PRINTS_NO_PICTURE


def test_what_changes_something_can_be_tried_without():
    assert {path for path, one in EVERY.items() if _has(one, "--dry-run")} == CHANGES


def _has(command, option):
    return any(option in parameter.opts for parameter in command.params)


@pytest.mark.parametrize(
    ("words", "heavy"),
    [
        (("--help",), ("pydantic", "httpx", "rich", "fastapi", "ruamel", "psutil")),
        # R2: the way to an abort is short
        (
            ("rollout", "abort", "web", "--kubernetes", "--kubeconfig=missing"),
            ("httpx", "redis", "fastapi", "ruamel", "rich.live", "psutil"),
        ),
    ],
)
def test_a_command_imports_nothing_heavy_that_it_does_not_use(words, heavy, tmp_path):
    code = (
        f"import sys; from phoenix_orch.cli.main import run; run({words!r});"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path
    )
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Invalid("bad", remedy="mend it"), 2),
        (Unavailable("away", remedy="start it"), 3),
        (Retryable("busy", remedy="again"), 1),
        (ExceptionGroup("tasks", [Invalid("bad", remedy="mend it")]), 2),
        (KeyboardInterrupt(), 130),
        (typer.Abort(), 130),
    ],
)
def test_errors_become_an_exit_status(monkeypatch, capsys, error, status):
    def raising():
        raise error

    monkeypatch.setattr("phoenix_orch.cli.version.version", raising)
    assert main.run(["version"]) == status
    shown = capsys.readouterr()
    assert shown.out == ""
    if status != 130:
        message = error.exceptions[0].message if isinstance(error, ExceptionGroup) else error.message
        assert shown.err.startswith(f"error: {message}\n  what to do: ")


def test_an_unexpected_error_is_one_line_and_a_file_of_the_owner(monkeypatch, capsys, tmp_path):
    def raising():
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("phoenix_orch.cli.version.version", raising)
    assert main.run(["version"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: unexpected ZeroDivisionError: oh"
    (report,) = tmp_path.glob("phoenix-error-*.log")
    assert str(report) in lines[1]
    assert "Traceback" in report.read_text()
    assert report.stat().st_mode & 0o777 == 0o600


def test_an_unexpected_error_is_one_line_where_nothing_can_be_written(monkeypatch, capsys):
    """As in a pod that may only read."""

    def raising():
        raise ZeroDivisionError("oh")

    def read_only(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def nowhere():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr("phoenix_orch.cli.version.version", raising)
    monkeypatch.setattr("tempfile.gettempdir", nowhere)
    monkeypatch.setattr("phoenix_orch.cli.main.os.open", read_only)
    assert main.run(["version"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: unexpected ZeroDivisionError: oh"
    assert lines[1].endswith("the details could not be written anywhere")


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -c 'from phoenix_orch.cli.main import main; main()' schema"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{\n", "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_poor_terminal_gets_a_poor_text_and_no_error(tmp_path, encoding):
    (tmp_path / "→.yaml").write_text("services: {}\n", encoding="utf-8")
    done = phoenix(
        "validate",
        "-f",
        "→.yaml",
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": "src"},
    )
    assert (done.returncode, done.stdout.splitlines()[0], done.stderr) == (0, "?.yaml is valid", "")


def test_the_nearest_word_for_the_data_directory_counts(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("phoenix_orch.cli.doctor.examine", lambda path: seen.append(path) or [])
    monkeypatch.setattr("phoenix_orch.cli.doctor._report", lambda _found: "")
    for arguments in (
        ["doctor"],
        ["--data-dir", "/before", "doctor"],
        ["--data-dir", "/before", "doctor", "--data-dir", "/own"],
    ):
        assert main.run(arguments) == 0
    assert seen == [tmp_path, Path("/before"), Path("/own")]


def test_the_default_data_directory(monkeypatch):
    monkeypatch.delenv("PHOENIX_DATA_DIR")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert options.default_data_dir() == Path("/home/me/.local/share/phoenix")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert options.default_data_dir() == Path("/data/phoenix")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert options.default_data_dir() == Path("/home/me/.local/share/phoenix")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_complete(shell, capsys):
    assert main.run(["completion", shell]) == 0
    assert "_PHOENIX_COMPLETE" in capsys.readouterr().out


def test_completion_offers_commands_and_never_complains():
    env = {**os.environ, "_PHOENIX_COMPLETE": "complete_bash", "COMP_WORDS": "phoenix ro", "COMP_CWORD": "1"}
    done = phoenix(env=env)
    assert (done.stdout.split(), done.stderr) == (["rollout"], "")
    env |= {"COMP_WORDS": "phoenix rollout status ", "COMP_CWORD": "3"}
    done = phoenix(env=env)
    assert (done.stdout.strip(), done.stderr) == ("", "")
