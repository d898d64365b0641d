"""Processes that no file names: known by a word of their command line and by what they were told."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from phoenix_orch.runtime import detached, lost
from phoenix_orch.runtime.detached import Process

WORD = "--configFile=/a/path/of/ours"


def spawn(tmp_path: Path, *words: str, **environment: str) -> Process:
    return detached.spawn(
        (sys.executable, "-c", "import time; time.sleep(600)", *words),
        output=tmp_path / "out",
        environment=environment,
    )


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Process]:
    process = spawn(tmp_path, WORD, PHOENIX_SELF='{"a": 1}')
    yield process
    detached.end(process, grace=0.0, name="it")


def test_it_is_found_by_the_whole_word_and_tells_what_it_was_told(tmp_path: Path, ours: Process) -> None:
    other = spawn(tmp_path, WORD + "/longer")
    try:
        assert lost.named(WORD) == [ours]
        assert lost.named(WORD[:-1]) == []
        assert lost.told(ours, "PHOENIX_SELF") == '{"a": 1}'
        assert lost.told(ours, "PHOENIX_OTHER") == ""
        assert lost.told(ours.model_copy(update={"started": "before"}), "PHOENIX_SELF") == ""
    finally:
        detached.end(other, grace=0.0, name="it")


def test_one_that_has_ended_is_not_found(ours: Process) -> None:
    detached.end(ours, grace=0.0, name="it")
    assert lost.named(WORD) == []
    assert lost.told(ours, "PHOENIX_SELF") == ""


def can_unshare() -> bool:
    tried = ("unshare", "-Urm", "true")
    return shutil.which("unshare") is not None and subprocess.run(tried, check=False).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="needs user and mount namespaces (unshare -Urm)")
def test_the_same_path_in_another_container_is_not_ours() -> None:
    """There it is another directory."""
    code = "print('there', flush=True); input()"
    there = subprocess.Popen(
        ["unshare", "-Urm", sys.executable, "-c", code, WORD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert there.stdout is not None
        assert there.stdout.readline() == b"there\n"
        assert lost.named(WORD) == []
    finally:
        there.communicate(b"\n", timeout=20)
