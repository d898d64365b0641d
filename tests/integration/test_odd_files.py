"""What is no regular file is not read: nothing waits for a pipe, nothing reads a device to its end."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit import recorded

from phoenix_orch.health_validator.recording import lines
from phoenix_orch.kernel import files
from phoenix_orch.kernel.errors import Invalid

MEMORY = 2 * 1024**3
"""Bytes of address space: a program that reads a device to its end fails instead of filling the machine."""
COMMANDS = (
    ("validate", "-f", "{}"),
    ("apply", "-f", "{}"),
    ("up", "-f", "{}"),
    ("plan", "--rps", "5", "-f", "{}"),
    ("replay", "{}"),
    ("replay", "--policy", "{}", "recording.jsonl"),
    ("calibrate", "-f", "{}"),
)


@pytest.fixture
def phoenix(tmp_path, monkeypatch):
    """Runs a command line in an empty directory; gives exit status and what was said."""
    (tmp_path / "recording.jsonl").write_text("\n".join(lines(recorded.release())))

    def run(*words: str, stdin: object = subprocess.DEVNULL) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "phoenix_orch.cli.main", *words],
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            cwd=tmp_path,
            env={**os.environ, "PHOENIX_DATA_DIR": str(tmp_path / "d")},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
            check=False,
        )
        return done.returncode, done.stderr

    return run


def refused(result: tuple[int, str], words: str) -> None:
    status, said = result
    assert status == 2, said
    assert words in said
    assert "\n  what to do: " in said
    assert len(said) < 3000


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_pipes_are_refused(phoenix, tmp_path, command):
    os.mkfifo(tmp_path / "pipe")
    refused(phoenix(*(word.format("pipe") for word in command)), "no regular file")


@pytest.mark.parametrize("command", [COMMANDS[2], COMMANDS[4]], ids=" ".join)
@pytest.mark.parametrize("name", ["/dev/zero", "link"])
def test_devices_are_refused(phoenix, tmp_path, command, name):
    (tmp_path / "link").symlink_to("/dev/zero")
    refused(phoenix(*(word.format(name) for word in command)), "no regular file")


@pytest.mark.parametrize("command", COMMANDS[:4], ids=" ".join)
def test_large_files_are_refused_without_being_read(phoenix, tmp_path, command):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(64 * 1024**3)  # takes no space
    refused(phoenix(*(word.format("large") for word in command)), "more than 1,048,576 bytes")


@pytest.mark.parametrize("command", [COMMANDS[0], COMMANDS[1], COMMANDS[3]], ids=" ".join)
def test_standard_input_is_bounded(phoenix, command):
    with Path("/dev/zero").open("rb") as endless:
        refused(phoenix(*(word.format("-") for word in command), stdin=endless), "more than 1,048,576 bytes")


@pytest.mark.parametrize("command", [COMMANDS[4], COMMANDS[6]], ids=" ".join)
def test_a_line_of_a_recording_is_bounded(phoenix, command):
    with Path("/dev/zero").open("rb") as endless:
        refused(phoenix(*(word.format("-") for word in command), stdin=endless), "more than 1,048,576 bytes")


def test_an_endless_recording_of_nonsense_ends(phoenix):
    with subprocess.Popen(["yes", "{}"], stdout=subprocess.PIPE) as endless:
        refused(phoenix("replay", "-", stdin=endless.stdout), "and ")
        endless.kill()


def test_doctor_does_not_wait_for_a_pipe(phoenix, tmp_path):
    os.mkfifo(tmp_path / "phoenix.yaml")
    status, said = phoenix("doctor")
    assert status == 1, said


def test_standard_input_and_links_to_files_are_read(phoenix, tmp_path):
    (tmp_path / "link.jsonl").symlink_to("recording.jsonl")
    assert phoenix("replay", "link.jsonl")[0] == 0
    with (tmp_path / "recording.jsonl").open() as file:
        assert phoenix("replay", "-", stdin=file) == (0, "")


def test_a_recording_is_read_as_it_comes(tmp_path):
    """Line by line: what follows has not been read when the first line is there."""
    path = tmp_path / "x"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\n" + b"x" * (2 * files.LONGEST_LINE))
    with files.lines(path) as found:
        assert next(found) == "one"
        assert next(found) == "two"
        with pytest.raises(Invalid, match=r"line 3 of .* more than 1,048,576 bytes"):
            next(found)


def test_what_is_no_text_is_named_by_its_line(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"one\ntw\xff\n")
    with files.lines(path) as found, pytest.raises(Invalid, match=r"byte 3 of line 2 is 0xff"):
        list(found)


def test_files_that_cannot_be_opened(tmp_path):
    for name, words in (("nope", "there is no file"), (".", "is a directory"), ("a" * 300, "too long")):
        with pytest.raises(Invalid, match=words):
            files.read(tmp_path / name, at_most=10)
    with pytest.raises(Invalid, match="cannot be read"):
        files.read(tmp_path / "zero\0byte", at_most=10)
    (tmp_path / "x").write_text(json.dumps({}))
    assert files.read(tmp_path / "x", at_most=2) == b"{}"
    with pytest.raises(Invalid, match="more than 1 bytes"):
        files.read(tmp_path / "x", at_most=1)
