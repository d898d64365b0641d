"""The words of the runbook for claims, as a person types them, on a real API server."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.backup_stage import OFFLINE
from tests.cluster.claim_world import SHOP, ClaimWorld, claim_world, spec_in
from tests.cluster.kubectl import Cluster

from phoenix_orch.cli.main import run
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.recovery.sources.snapshot_plan import CLAIMS, VOLUMES

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
async def world(
    cluster: Cluster, kube: KubeClient, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ClaimWorld]:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.chdir(tmp_path)
    async with claim_world(cluster, kube, namespace, tmp_path) as made:
        spec = spec_in(tmp_path, {"shop": {"claim": "data"}})
        file = {"backup": spec.model_dump(mode="json", by_alias=True)}
        (tmp_path / "phoenix.yaml").write_text(json.dumps(file))
        (tmp_path / "recovery.key").write_text(f"{OFFLINE.key}\n")
        cluster.kubectl("config", "set-context", "--current", f"--namespace={namespace}")
        yield made
        cluster.kubectl("config", "set-context", "--current", "--namespace=default")


async def phoenix(world: ClaimWorld, *words: str, status: int = 0) -> str:
    """What it prints, both ways; in a thread, since the storage plays in this one."""

    def said() -> tuple[int, str]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            found = run([*words, "--data-dir", str(world.folder / "person")])
        return found, out.getvalue()

    found, text = await asyncio.to_thread(said)
    assert found == status, text
    return text


async def handle_of(world: ClaimWorld, claim: str) -> str | None:
    found = await world.kube.get(CLAIMS, claim)
    volume = await world.kube.get(VOLUMES, found["spec"]["volumeName"])
    return world.storage.volumes.get(volume["spec"]["csi"]["volumeHandle"])


async def test_a_claim_is_backed_up_restored_and_taken_back(world: ClaimWorld) -> None:
    file = ("--file", "phoenix.yaml")
    said = await phoenix(world, "backup", "run", SHOP, *file)
    assert "L3 well-formed, good" in said
    listed = json.loads(await phoenix(world, "backup", "list", *file, "-o", "json"))
    (one,) = listed["backups"]
    assert (one["component"], one["level"], one["good"]) == (SHOP, 3, True)
    assert "the storage has" in await phoenix(world, "backup", "verify", "--component", SHOP, *file)
    (handle,) = world.storage.snapshots
    assert handle in await phoenix(world, "backup", "show", "--component", SHOP, *file)

    plan = await phoenix(
        world, "restore", "plan", "volume", *file, "--component", SHOP, "--identity", "recovery.key"
    )
    line = plan.splitlines()[-1]
    assert line.startswith("do it: phoenix restore run volume --file phoenix.yaml")
    wrong = line.split()[3:-1]
    assert "was confirmed" in await phoenix(world, *wrong, "0000000000", status=1)
    assert "nothing was changed" in await phoenix(world, *line.split()[3:], "--dry-run")
    assert await handle_of(world, "data") is None
    done = await phoenix(world, *line.split()[3:])
    assert "the state is whole" in done
    assert await handle_of(world, "data") == handle
    back = next(one for one in done.splitlines() if one.startswith("take it back:"))
    assert f"-n {world.namespace}" in back
    words = back.removeprefix("take it back:").split()[1:]
    assert "data would have " in await phoenix(world, *words, "--dry-run")
    assert await handle_of(world, "data") == handle
    assert "again" in await phoenix(world, *words)
    assert await handle_of(world, "data") is None


async def test_the_guides_file_comes_from_the_catalog(world: ClaimWorld) -> None:
    """`kubectl apply -f backup/volume-restore.yaml`, with the moment to go back to."""
    await phoenix(world, "backup", "run", SHOP, "--file", "phoenix.yaml")
    (handle,) = world.storage.snapshots
    words = ("restore", "plan", "volume", "--file", "phoenix.yaml", "--component", SHOP)
    await phoenix(world, *words, "--as-of", "2001-01-01T00:00:00Z", "--write", "restore.yaml", status=2)
    said = await phoenix(world, *words, "--as-of", "2100-01-01T00:00:00Z", "--write", "restore.yaml")
    assert "kubectl apply -f restore.yaml" in said
    path = str(world.folder / "restore.yaml")
    await asyncio.to_thread(world.cluster.kubectl, "apply", "-f", path)
    claim, job = said.split("--new ")[1].split()[0], said.split("job/")[1].split()[0]
    wait = ("wait", "-n", world.namespace, "--for=condition=complete", f"job/{job}", "--timeout=50s")
    await asyncio.to_thread(world.cluster.kubectl, *wait)
    assert await handle_of(world, claim) == handle


async def test_what_is_missing_is_said(world: ClaimWorld) -> None:
    said = await phoenix(world, "restore", "plan", "volume", status=2)
    assert "--file phoenix.yaml --component volume/NAME" in said
    said = await phoenix(world, "restore", "run", "volume", status=2)
    assert "--archive FILE --to DIR --merkle-root HEX" in said
    said = await phoenix(world, "restore", "run", "volume", "--claim", "data", "--volume", "none", status=2)
    assert "-n NAME" in said
    said = await phoenix(world, "backup", "run", "volume/none", "--file", "phoenix.yaml", status=2)
    assert "not backed up here" in said
