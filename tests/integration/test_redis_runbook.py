"""The runbook's commands, typed word by word against a real server with a replica."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.backup_stage import IDENTITY, SIGNER, stage
from tests.debian import program
from tests.redis_restoring import taken
from tests.redis_server import Server, filled, replica_of, serving, surroundings, until

pytestmark = pytest.mark.timeout(180)

PAGE = Path(__file__).parents[2] / "docs" / "runbooks" / "redis-recovery.md"
COMMANDS = [
    line
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for line in re.findall(r"^\$ (.*)$", block, re.MULTILINE)
]


class Night:
    """Somebody on call, on a machine that never took a backup."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.server = folder, server
        self.named = {"/mnt/backups": str(folder / "bucket"), "redis-0:6379": f"127.0.0.1:{server.port}"}
        (folder / "home").mkdir()
        (folder / "home" / "recovery.key").write_text(f"{IDENTITY.key}\n")

    def types(self, line: str, *more: str, code: int = 0) -> str:
        done = self._typed(line, *more)
        assert done.returncode == code, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def says(self, line: str, *more: str) -> str:
        """What a program reads of it."""
        done = self._typed(line, *more)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _typed(self, line: str, *more: str) -> subprocess.CompletedProcess[str]:
        for name, value in self.named.items():
            line = line.replace(name, value)
        words = [*shlex.split(line), *more]
        if words[0] == "phoenix":
            words = [sys.executable, "-m", "phoenix_orch", *words[1:]]
            environment = {"HOME": str(self.folder / "home"), "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
        else:
            cli = program("redis-cli", "redis-server")
            words = [str(cli), "-h", "127.0.0.1", "-p", str(self.server.port), *words[5:]]
            environment = surroundings(cli)
        return subprocess.run(
            words, cwd=self.folder / "home", env=environment, capture_output=True, text=True, check=False
        )


def test_at_night_each_command_says_the_next(tmp_path):
    plan, run, status, replication, abort = COMMANDS
    with serving(tmp_path / "server") as server, replica_of(server, tmp_path / "replica") as replica:
        filled(server.client(), 50, "good:")
        taken(stage(tmp_path / "bucket"), server.address)
        shutil.rmtree(tmp_path / "bucket" / "locks")  # of a fake lease
        old = server.digest()
        server.ask("FLUSHALL")
        filled(server.client(), 5, "bad:")
        night = Night(tmp_path, server)

        refused = night.types(plan, code=2)
        assert "--signed-by KEY" in refused
        said = night.types(plan, "--signed-by", SIGNER.public)
        assert "do it: phoenix restore run redis " in said
        asked = re.search(r"do it: (phoenix restore run redis (\S+) --confirm (\S+))", said)
        assert asked is not None
        night.named |= {" ID": f" {asked[2]}", "HASH": asked[3]}
        again = run
        for name, value in night.named.items():
            again = again.replace(name, value)
        assert again == asked[1]  # what the page says is what the plan told

        assert "planned" in night.types(status)
        night.types(run.replace("HASH", "0000000000"), code=2)
        assert server.digest() != old
        assert "done:" in night.types(run)
        assert server.digest() == old
        until(lambda: replica.digest() == old)
        seen = night.types(status)
        assert "what was there before: backup " in seen
        told = night.types(replication)
        assert "role:master" in told
        assert "connected_slaves:1" in told
        assert "state=online" in told
        assert "is done" in night.types(abort, code=2)


def test_a_restore_that_is_not_begun_is_aborted(tmp_path):
    plan, *_, abort = COMMANDS
    with serving(tmp_path / "server") as server:
        server.ask("SET", "a", "b")
        taken(stage(tmp_path / "bucket"), server.address)
        night = Night(tmp_path, server)
        said = night.types(plan, "--signed-by", SIGNER.public)
        night.named[" ID"] = " " + re.search(r"run redis (\S+)", said)[1]
        assert "would be aborted: it is planned" in night.types(f"{abort} --dry-run")
        assert "nothing was changed" in night.types(abort)
        assert "is aborted" in night.types(f"{abort} --dry-run", code=2)
        assert server.ask("GET", "a") == "b"


def test_what_the_guide_writes_restores_nothing(tmp_path):
    with serving(tmp_path / "server") as server:
        server.ask("SET", "a", "b")
        assert "wrong number of arguments" in Night(tmp_path, server).types(
            "redis-cli -h redis-0 -p 6379 RESTORE"
        )


def test_some_keys_are_counted_first_and_then_put_back(tmp_path):
    line = re.search(r"^phoenix restore keys .*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert line is not None
    with serving(tmp_path / "server") as server:
        server.client().mset({f"user:{n}": n for n in range(10)} | {"other": 1})
        taken(stage(tmp_path / "bucket"), server.address)
        server.ask("DEL", "other", *(f"user:{n}" for n in range(9)))
        server.ask("SET", "user:9", "newer")
        night = Night(tmp_path, server)
        said = night.types(line[0], "--signed-by", SIGNER.public)
        assert "9 would be restored, 0 written over, 1 skipped" in said
        assert server.client().dbsize() == 1
        told = re.search(r"--confirm (\S+)", said)
        assert told is not None
        said = night.types(line[0], "--signed-by", SIGNER.public, "--confirm", told[1])
        assert "9 were restored" in said
        assert server.client().mget("user:0", "user:9", "other") == ["0", "newer", None]
        assert "written over" in night.types(
            line[0], "--signed-by", SIGNER.public, "--confirm", "0" * 10, code=1
        )


def test_what_blocks_is_told_with_its_remedy(tmp_path):
    with serving(tmp_path / "server") as server, replica_of(server, tmp_path / "replica") as replica:
        taken(stage(tmp_path / "bucket"), server.address)
        said = Night(tmp_path, replica).types(COMMANDS[0], "--signed-by", SIGNER.public, code=1)
        assert "is a replica of 127.0.0.1" in said
        assert "then plan anew" in said
        assert "do it:" not in said


def test_programs_can_read_every_step_and_all_of_them_are_recorded(tmp_path):
    with serving(tmp_path / "server") as server:
        filled(server.client(), 50, "good:")
        taken(stage(tmp_path / "bucket"), server.address)
        shutil.rmtree(tmp_path / "bucket" / "locks")  # of a fake lease
        filled(server.client(), 5, "bad:")
        night = Night(tmp_path, server)
        plan = COMMANDS[0]
        found = json.loads(night.says(plan, "--signed-by", SIGNER.public, "-o", "json"))
        assert not found["blocked"]
        run = f"phoenix restore run redis {found['id']} --confirm {found['hash']} -o json"
        assert json.loads(night.says(run))["state"] == "done"
        asked, done = json.loads(night.says("phoenix audit list -o json"))
        assert (asked["action"], done["action"]) == ("restore.redis", "restore.redis")
        assert (asked["outcome"], done["outcome"]) == ("asked", "done")
        assert done["after"]["backup"] == found["backup"]


def test_a_dry_run_looks_once_more_and_changes_nothing(tmp_path):
    with serving(tmp_path / "server") as server:
        filled(server.client(), 20, "good:")
        taken(stage(tmp_path / "bucket"), server.address)
        filled(server.client(), 5, "bad:")
        digest, night = server.digest(), Night(tmp_path, server)
        found = json.loads(night.says(COMMANDS[0], "--signed-by", SIGNER.public, "-o", "json"))
        stored = sorted((tmp_path / "bucket").rglob("*"))
        run = f"phoenix restore run redis {found['id']}"
        for line in (f"{run} --dry-run", f"{run} --confirm {found['hash']} --dry-run"):
            said = night.types(line)
            assert "nothing was changed" in said
            assert "the 175 keys of 127.0.0.1" in said
        told = json.loads(night.says(f"{run} --dry-run -o json"))
        assert (told["dryRun"], told["blocked"], told["hash"]) == (True, False, found["hash"])
        assert "is not the hash of plan" in night.types(f"{run} --confirm 0000000000 --dry-run", code=2)
        server.ask("REPLICAOF", "127.0.0.1", 1)
        said = night.types(f"{run} --dry-run", code=1)
        assert "is a replica of 127.0.0.1:1" in said
        assert "nothing was changed" in said
        server.ask("REPLICAOF", "NO", "ONE")
        assert server.digest() == digest
        assert sorted((tmp_path / "bucket").rglob("*")) == stored
        assert "planned" in night.types(f"phoenix restore status {found['id']}")
