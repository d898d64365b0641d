"""Ctrl-C in a restore, in a drill, in sealing anew: nothing is half, and what is left is said."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyrage
import pytest
from tests import interrupting
from tests.backup_stage import IDENTITY, SIGNER, stage
from tests.integration.test_backup_cli import FILE
from tests.redis_restoring import taken
from tests.redis_server import filled, serving

pytestmark = pytest.mark.timeout(400)
ROOT = Path(__file__).parents[2]
_CHILD = """
import importlib, sys, threading
from phoenix_orch.cli.main import run

module, name, calls, words = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
found = importlib.import_module(module)
real = getattr(found, name)

def hang(*arguments, **options):
    global calls
    calls -= 1
    if calls:
        return real(*arguments, **options)
    print("there", flush=True)
    threading.Event().wait(60)

setattr(found, name, hang)
sys.exit(run(words))
"""


class Typed:
    """`phoenix` in a data directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"

    def __call__(self, *words: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "phoenix_orch", *self._whole(words)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "COLUMNS": "200"},
        )
        assert done.returncode == status, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def interrupted(self, where: str, *words: str, call: int = 1) -> str:
        """What it says, once it was interrupted as it called the function `where` for the so-manieth time."""
        module, _, name = where.rpartition(".")
        return interrupting.interrupted(_CHILD, module, name, str(call), *self._whole(words))

    def _whole(self, words: tuple[str, ...]) -> list[str]:
        return [*words, "--data-dir", str(self.data)]


@pytest.mark.parametrize(
    ("where", "call", "state"),
    [
        ("phoenix_orch.recovery.storing.seal", 1, "copying"),
        ("phoenix_orch.recovery.verifying.unseal", 2, "staging"),  # the first proves the safety copy
        ("phoenix_orch.recovery.restore.run.unseal", 1, "cutting"),
        ("phoenix_orch.recovery.restore.run.check", 1, "checking"),
    ],
)
def test_a_restore_that_is_interrupted_is_gone_on_with(
    tmp_path: Path, where: str, call: int, state: str
) -> None:
    typed = Typed(tmp_path)
    (tmp_path / "key").write_text(f"{IDENTITY.key}\n")
    with serving(tmp_path / "server") as server:
        filled(server.client(), 40, "good:")
        good = server.digest()
        taken(stage(tmp_path / "bucket"), server.address)
        (tmp_path / "bucket" / "locks").rename(tmp_path / "locks")  # of a fake lease
        server.ask("FLUSHALL")
        filled(server.client(), 5, "bad:")
        bad = server.digest()
        words = ["restore", "plan", "redis", "--component", "redis/cache", "--signed-by", SIGNER.public]
        words += ["--to", str(server.address), "--storage", str(tmp_path / "bucket")]
        found = re.search(
            r"phoenix (restore run redis (\S+) --confirm \S+)",
            typed(*words, "--identity", str(tmp_path / "key")),
        )
        assert found is not None
        run = found[1].split()
        said = typed.interrupted(where, *run, call=call)
        assert (
            f"interrupted: see how far it is, and go on or end it: phoenix restore status {found[2]}" in said
        )
        assert server.client().info("replication")["role"] == "master"
        assert server.digest() == (good if state == "checking" else bad)
        told = typed("restore", "status", found[2])
        assert f"{found[2]}: {state}" in told
        assert f"go on:  phoenix {found[1]}" in told
        assert f"or end: phoenix restore abort {found[2]}" in told
        assert "done:" in typed(*run)
        assert server.digest() == good
        safety = json.loads(typed("restore", "status", found[2], "-o", "json"))["safety"]
        manifests = [path.parent.name for path in (tmp_path / "bucket" / "v1").rglob("manifest.json")]
        assert len(manifests) == 2  # of the copy, and of one safety copy
        assert any(name.endswith(safety) for name in manifests)
    assert not list((tmp_path / "bucket" / ".tmp").glob("*"))


def configured(folder: Path, offline: str) -> list[str]:
    """A phoenix.yaml; the words that name it."""
    online = pyrage.x25519.Identity.generate()
    key = folder / "data" / "keys" / "online.key"
    if not key.exists():
        key.parent.mkdir(parents=True)
        key.write_text(f"{online}\n")
    here = str(pyrage.x25519.Identity.from_str(key.read_text().strip()).to_public())
    (folder / "phoenix.yaml").write_text(FILE.format(here=here, safe=offline))
    return ["--file", str(folder / "phoenix.yaml")]


def offline() -> Any:
    return pyrage.x25519.Identity.generate()


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        ("daily", "phoenix_orch.recovery.verifying.unseal"),
        ("weekly", "phoenix_orch.recovery.drill_copy._download"),
        ("weekly", "phoenix_orch.recovery.drill_copy.unseal"),
        ("monthly", "phoenix_orch.recovery.drill_copy.unseal"),
    ],
)
def test_a_drill_that_is_interrupted_leaves_nothing(tmp_path: Path, kind: str, where: str) -> None:
    typed, safe = Typed(tmp_path), offline()
    file = configured(tmp_path, str(safe.to_public()))
    (tmp_path / "offline.key").write_text(f"{safe}\n")
    (tmp_path / "scratch").mkdir()
    typed("backup", "run", "config", *file)
    more = ["--identity", str(tmp_path / "offline.key")] if kind == "monthly" else []
    words = ["drill", "run", kind, *more, "--scratch", str(tmp_path / "scratch"), *file]
    before = sorted(str(path) for path in (tmp_path / "bucket").rglob("*"))
    said = typed.interrupted(where, *words)
    assert "interrupted: nothing was recorded, and nothing is left in the scratch place" in said
    assert sorted(str(path) for path in (tmp_path / "bucket").rglob("*")) == before
    assert not list((tmp_path / "scratch").iterdir())
    assert json.loads(typed("drill", "list", *file, "-o", "json"))["drills"] == []
    acts = json.loads(typed("audit", "list", "-o", "json"))
    assert [(one["action"], one["outcome"]) for one in acts][-2:] == [
        (f"drill.{kind}", "asked"),
        (f"drill.{kind}", "failed"),
    ]
    assert "UTC: PASS" in typed(*words)


@pytest.mark.parametrize("where", ["seal", "record_look"])
def test_sealing_anew_that_is_interrupted_is_gone_on_with(tmp_path: Path, where: str) -> None:
    """At the second of two backups: before it is published, and just after."""
    typed = Typed(tmp_path)
    file = configured(tmp_path, str(offline().to_public()))
    for _ in range(2):
        typed("backup", "run", "config", *file)
    old = sorted(one["id"] for one in listed(typed, file))
    configured(tmp_path, str(offline().to_public()))
    said = typed.interrupted(f"phoenix_orch.recovery.rekey.{where}", "keys", "rekey", "--all", *file, call=2)
    assert "interrupted: what was sealed anew is there, the others are as they were" in said
    assert "the same again goes on" in said
    found = listed(typed, file)
    assert {one["id"] for one in found} >= set(old)
    fresh = [one["id"] for one in found if one["id"] not in old]
    assert len(fresh) == (1 if where == "seal" else 2)
    again = json.loads(typed("keys", "rekey", "--all", *file, "-o", "json"))
    assert [one["id"] for one in again] == old[1:]
    assert len(listed(typed, file)) == 4
    assert json.loads(typed("keys", "rekey", "--all", *file, "-o", "json")) == []
    for one in listed(typed, file):
        if one["id"] not in old:
            typed("backup", "verify", one["id"], *file)
    assert not list((tmp_path / "bucket" / ".tmp").glob("*"))


def listed(typed: Typed, file: list[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(typed("backup", "list", *file, "-o", "json"))["backups"]
    return found
