"""`verify-state` tells a whole state from one that is not, on a real store."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery.verify_state import Part, PartState, reported
from phoenix_orch.runtime.valkey_server import ValkeyServer
from phoenix_orch.security.audit_chain import Entry
from phoenix_orch.security.audit_log import AuditLog

PROGRAM = Path(sys.executable).with_name("verify-state")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory as a Phoenix that has ended leaves it."""
    root = tmp_path_factory.mktemp("state") / "d"
    layout = Layout(root)
    layout.make()
    layout.clock.write_text(json.dumps({"epoch": datetime(2026, 1, 1, tzinfo=UTC).isoformat(), "speed": 1}))
    AuditLog(layout.audit).append([_entry() for _ in range(3)])
    server = ValkeyServer(layout.valkey)
    asyncio.run(_once(server))
    return root


async def _once(server: ValkeyServer) -> None:
    await server.ensure()
    await server.stop()


def _entry() -> Entry:
    return Entry(
        at=datetime(2026, 1, 1, tzinfo=UTC), actor="ann", action="rollout.abort", target="rollout/shop"
    )


@pytest.fixture
def copy(state: Path, tmp_path: Path) -> Layout:
    subprocess.run(("cp", "-a", state, tmp_path / "d"), check=True)
    return Layout(tmp_path / "d")


def verified(layout: Layout) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        (PROGRAM, "--data-dir", layout.root, "-o", "json"), capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    report = json.loads(done.stdout)
    return done.returncode, {part["name"]: part for part in report["parts"]} | {"whole": report["whole"]}


def test_a_state_that_is_whole(copy: Layout) -> None:
    status, report = verified(copy)
    assert (status, report["whole"]) == (0, True), report
    assert report["store"]["detail"] == "it does not run; its append-only file is whole"
    assert report["audit"]["detail"] == "3 records in one chain"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts what can only be read")
def test_a_state_that_can_only_be_read(copy: Layout) -> None:
    """As the Job of a restore has the volume."""
    script = 'mount --bind -o ro "$1" "$1" && exec "$2" --data-dir "$1" -o json'
    done = subprocess.run(
        ("unshare", "--mount", "sh", "-c", script, "sh", copy.root, PROGRAM),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["whole"] is True


def test_a_store_that_runs(copy: Layout) -> None:
    server = ValkeyServer(copy.valkey)
    asyncio.run(server.ensure())
    try:
        status, report = verified(copy)
        assert (status, report["whole"]) == (0, True), report
        assert report["store"]["detail"] == "it answers"
        assert report["rollouts"]["detail"] == "0 can be read"
    finally:
        asyncio.run(server.stop())


def broken_audit(layout: Layout) -> None:
    [file] = layout.audit.glob("*.jsonl")
    file.write_bytes(file.read_bytes().replace(b"ann", b"bob", 1))


def broken_store(layout: Layout) -> None:
    for file in (layout.valkey / "appendonlydir").glob("*.rdb"):
        file.write_bytes(file.read_bytes()[:-5])


def broken_configuration(layout: Layout) -> None:
    layout.config.write_text('{"rollouts": 5}')


def broken_files(layout: Layout) -> None:
    layout.freezes.write_text('{"a": ')


def no_store(layout: Layout) -> None:
    subprocess.run(("rm", "-r", layout.valkey), check=True)


@pytest.mark.parametrize(
    ("part", "broken"),
    [
        ("audit", broken_audit),
        ("store", broken_store),
        ("configuration", broken_configuration),
        ("files", broken_files),
        ("directory", no_store),
    ],
)
def test_each_part_that_is_not_whole_is_found(copy: Layout, part: str, broken: Any) -> None:
    broken(copy)
    status, report = verified(copy)
    assert (status, report["whole"]) == (1, False)
    assert report[part]["state"] == "broken"
    assert report[part]["remedy"]


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    status, report = verified(Layout(tmp_path / "none"))
    assert (status, report["whole"]) == (1, False)
    assert "no Phoenix has been started here" in report["directory"]["detail"]


def test_what_could_not_be_looked_at_is_not_whole() -> None:
    parts = {state: Part(name=state, state=state, detail="") for state in PartState}
    whole, broken, unknown, absent = (parts[state] for state in PartState)
    assert reported([whole, absent]).exit_status == 0
    assert reported([whole, unknown]).exit_status == 3
    assert reported([unknown, broken]).exit_status == 1
    assert reported([absent]).exit_status == 3
    assert reported([]).exit_status == 3
