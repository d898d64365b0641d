"""Copies that the package's Valkey cannot load are rehearsed by a server that is named, or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.backup_stage import IDENTITY, Stage, stage
from tests.drill_stage import EVERY, drill, failed
from tests.integration.test_drill_cli import Place
from tests.integration.test_redis_versions import rich
from tests.redis_restoring import COMPONENT, find, restorer, taken
from tests.redis_server import Server, redis7, serving, surroundings, valkey
from tests.redis_servers import RELEASES, Release

from phoenix_orch.kernel.errors import BadState
from phoenix_orch.recovery import rdb_values
from phoenix_orch.recovery.catalog import Backup
from phoenix_orch.recovery.drill import Expected
from phoenix_orch.recovery.drill_report import Phase
from phoenix_orch.recovery.manifest import Level, Manifest
from phoenix_orch.recovery.rdb_load import DumpLoad
from phoenix_orch.recovery.restore.journal import State
from phoenix_orch.recovery.server_program import UnrehearsedError, loader, program_of

pytestmark = pytest.mark.timeout(300)


def release(name: str) -> Release:
    return next(one for one in RELEASES if one.name == name)


@dataclass
class Origin:
    """A Redis 7.4 with hash-field TTLs, and a copy of it."""

    server: Server
    at: Stage
    backup: str

    @property
    def copy(self) -> Backup:
        return find(self.at.folder)(self.backup)


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Origin]:
    of = release("redis 7.4")
    with serving(tmp_path / "origin", binary=of.get(), quick=of.quick) as server:
        rich(server, of)
        at = stage(tmp_path / "bucket")
        yield Origin(server, at, taken(at, server.address).manifest.id)


def old(folder: Path) -> Path:
    """A Redis 7.0 that finds its libraries by itself."""
    script, binary = folder / "old-redis-server", redis7()
    path = surroundings(binary).get("LD_LIBRARY_PATH", "")
    script.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={path} exec {binary} "$@"\n')
    script.chmod(0o755)
    return script


def written_by(format_: str) -> Manifest:
    return Manifest.model_construct(engine={"format": format_}, content={})


def test_the_first_that_reads_it_is_taken_and_the_own_one_before_all(tmp_path: Path) -> None:
    older, new, newer = old(tmp_path), release("redis 7.4").get(), release("redis 8.0").get()
    assert loader(written_by("VALKEY080"), [new]).path == valkey()
    assert loader(written_by("REDIS0011"), [new]).kind == "valkey"
    assert loader(written_by("REDIS0012"), [older, new, newer]).path == new
    assert loader(Manifest.model_construct(engine={}, content={})).path == valkey()  # an older manifest
    found = program_of(newer)
    assert (found.kind, found.version[:2], list(found.tools)) == ("redis", "8.", ["redis-server"])
    for format_, words in {
        "REDIS0012": "a redis-server of version 7.4 or newer: backup.rehearsalServers",
        "REDIS0013": "a redis-server of version 8.6 or newer",
        "REDIS0099": "a redis-server as new as the one that was copied",
        "VALKEY099": "a valkey-server as new as the one that was copied",
    }.items():
        with pytest.raises(UnrehearsedError, match=r"cannot be rehearsed here: .* name ") as caught:
            loader(written_by(format_), [older])
        assert words in caught.value.message
        assert "redis 7.0" in caught.value.message
        assert "--level 3" in caught.value.remedy


def test_what_is_named_and_no_server_is_told(tmp_path: Path) -> None:
    script = tmp_path / "server"
    for path, words in (
        (tmp_path / "none", "cannot be run: no such file"),
        (tmp_path, "cannot be run: permission denied"),
        (Path("/bin/false"), "cannot be run: it ended with status 1"),
        (Path("/bin/echo"), "neither redis-server nor valkey-server"),
    ):
        with pytest.raises(BadState, match=words) as caught:
            loader(written_by("REDIS0012"), [path])
        assert str(path) in caught.value.message
        assert caught.value.remedy
    script.write_text(f'#!/bin/sh\nexec {release("redis 7.4").get()} "$@"\n')
    script.chmod(0o755)
    assert loader(written_by("REDIS0012"), [script]).path == script


@pytest.mark.parametrize("program", ["redis 7.4", "redis 8.2"])
def test_a_named_server_loads_it_and_has_all_of_it(tmp_path: Path, origin: Origin, program: str) -> None:
    look = origin.at.verifier.look(
        origin.copy.manifest,
        origin.copy.sha256,
        Level.LOADED,
        structural=DumpLoad([old(tmp_path), release(program).get()]),
    )
    keys = sum(keys for keys, _ in _databases(origin.server).values())
    assert (look.passed, look.level, look.found["keys"]) == (True, Level.LOADED, keys)
    assert look.tools["redis-server"].startswith(program.partition(" ")[2])
    if program == "redis 7.4":  # versions compute it differently
        assert look.found["digest"]["value"] == origin.server.digest()


def _databases(server: Server) -> dict[str, Any]:
    info = server.client().info("keyspace")
    return {name: (one["keys"], one["expires"]) for name, one in info.items()}


def test_damage_is_found_by_it_too(origin: Origin) -> None:
    manifest = origin.copy.manifest
    wrong = manifest.model_copy(update={"content": {**manifest.content, "keys": 3}})
    wrong.content.pop("counted", None)
    named = DumpLoad([release("redis 7.4").get()])
    look = origin.at.verifier.look(wrong, "", Level.LOADED, structural=named)
    assert (look.passed, "and 3 were there" in look.detail) == (False, True)
    assert named.result is None


def test_what_is_newer_than_this_phoenix_is_counted_by_the_server_alone(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {kind: skip for kind, skip in rdb_values._SKIPS.items() if kind not in (24, 25)}
    monkeypatch.setattr(rdb_values, "_SKIPS", known)
    named = DumpLoad([release("redis 7.4").get()])
    look = origin.at.verifier.look(origin.copy.manifest, "", Level.LOADED, structural=named)
    assert look.passed, look.detail
    assert named.result is not None
    assert named.result.digest == origin.server.digest()


@pytest.mark.parametrize("kind", ["weekly", "monthly"])
def test_a_drill_says_what_it_could_not_rehearse_and_passes_with_a_server(origin: Origin, kind: str) -> None:
    terms: dict[str, Any] = {"expected": [Expected(COMPONENT, EVERY, EVERY * 2)]}

    def done(**more: Any) -> Any:
        acting = drill(origin.at.store, **terms, **more)
        return acting.weekly("seed") if kind == "weekly" else acting.monthly()

    report = done()
    assert not report.passed
    words = failed(report)[Phase.LOAD]
    assert "cannot be rehearsed here: valkey" in words
    assert "name a redis-server of version 7.4 or newer: backup.rehearsalServers" in words
    report = done(servers=[release("redis 7.4").get()])
    assert report.passed, report.reasons
    assert report.tools["redis-server"].startswith("7.4")
    assert "digest" in next(step.detail for step in report.steps if step.phase is Phase.LOAD)


def test_a_restore_is_rehearsed_by_it_and_its_plan_tells_where_it_is_not(
    tmp_path: Path, origin: Origin
) -> None:
    with serving(tmp_path / "target", binary=release("redis 8.2").get()) as target:
        without = restorer(origin.at.folder, tmp_path / "journal", (IDENTITY,))
        plan = without.plan(origin.copy, target.address)
        (look,) = [one for one in plan.looks if one.check == "rehearsal"]
        assert look.weight.value == "warns"
        assert "--rehearsal-server FILE; until then it is walked through" in look.found
        assert any("walked through and counted: no server here loads it" in step for step in plan.steps)
        servers = [release("redis 7.4").get()]
        acting = restorer(origin.at.folder, tmp_path / "journal", (IDENTITY,), servers=servers)
        plan = acting.plan(origin.copy, target.address)
        assert not [one for one in plan.looks if one.check == "rehearsal"]
        done = acting.run(plan.id, target.address, plan.hash)
        assert (done.state, done.digest) == (State.DONE, origin.server.digest())
        assert not any("walked through" in words for words in done.told)


def test_by_the_command_line(tmp_path: Path, origin: Origin, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "place").mkdir()
    place = Place(tmp_path / "place", capsys)
    file = place.root / "phoenix.yaml"
    text = file.read_text() + f"  redis: {{cache: {{address: '127.0.0.1:{origin.server.port}'}}}}\n"
    file.write_text(text)
    for component in ("config", "redis/cache"):
        place("backup", "run", component)
    for kind in ("weekly", "monthly"):
        more = ["--identity", place.key] if kind == "monthly" else []
        planned = place.json("drill", "run", kind, "--dry-run", *more, status=1)
        problems = {one["component"]: one["problem"] for one in planned["copies"]}
        assert problems["config"] == ""
        assert "cannot be rehearsed here" in problems["redis/cache"]
        assert "cannot be rehearsed here" in place("drill", "run", kind, "--dry-run", *more, status=1)
        said = place("drill", "run", kind, *more, status=1)
        assert "FAIL" in said
        assert "cannot be rehearsed here" in said
    assert place.json("drill", "run", "daily", "--dry-run")["copies"][1]["problem"] == ""
    assert "rehearsalServers" in place(
        "backup", "verify", "--component", "redis/cache", "--level", "4", status=2
    )
    file.write_text(f"{text}  rehearsalServers: [{json.dumps(str(release('redis 7.4').get()))}]\n")
    for kind in ("weekly", "monthly"):
        more = ["--identity", place.key] if kind == "monthly" else []
        place("drill", "run", kind, "--dry-run", *more)
        assert "UTC: PASS" in place("drill", "run", kind, *more)
    place("backup", "verify", "--component", "redis/cache", "--level", "4")
