"""Drills of claims: a snapshot is restored into a scratch claim, looked at by a Job, and nothing is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.claim_world import FAST, SHOP, ClaimWorld, claim_world
from tests.cluster.kubectl import Cluster

from phoenix_orch.kube.client import KubeClient
from phoenix_orch.orchestrator.drills import Asked, Drills
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.recovery.drill_report import Kind, Phase, Report
from phoenix_orch.recovery.manifest import Level
from phoenix_orch.recovery.restore.scratch_claim import SCRATCH
from phoenix_orch.recovery.restore.state_job import JOBS
from phoenix_orch.recovery.sources.snapshot_plan import CLAIMS, CONTENTS

pytestmark = pytest.mark.timeout(300)
SQLITE = {"kind": "sqlite", "files": "*.db"}


@pytest.fixture
async def world(
    cluster: Cluster, kube: KubeClient, namespace: str, tmp_path: Path
) -> AsyncIterator[ClaimWorld]:
    async with claim_world(cluster, kube, namespace, tmp_path) as made:
        yield made


async def drill(world: ClaimWorld, claim: dict[str, Any] | None = None) -> Report:
    """Of the claim alone."""
    backups = world.backups(shop={"claim": "data", **(claim or {})})
    drills = Drills(backups, Layout(world.folder / "state"), by="test")
    report = await asyncio.to_thread(drills.run, Asked(Kind.WEEKLY, seed="s"))
    steps = tuple(step for step in report.steps if step.component == SHOP)
    return report.model_copy(update={"steps": steps})


async def nothing_left(world: ClaimWorld) -> None:
    """But the claim, its snapshot and what belongs to them."""
    async with asyncio.timeout(60):
        while True:
            claims = {one["metadata"]["name"] for one in (await world.kube.list(CLAIMS)).items}
            jobs = (await world.kube.list(JOBS)).items
            if claims == {"data"} and not jobs and not world.storage.volumes:
                break
            await asyncio.sleep(0.1)
    refs = [one["spec"]["volumeSnapshotRef"] for one in (await world.kube.list(CONTENTS)).items]
    assert len([ref for ref in refs if ref["namespace"] == world.namespace]) == 1


async def test_the_weekly_drill_restores_a_snapshot_aside(world: ClaimWorld) -> None:
    published = await world.run()
    report = await drill(world, {"checks": [SQLITE], "verify": {"folder": "state", "image": "phoenix:1"}})
    assert [(step.phase, step.passed) for step in report.steps][-1] == (Phase.VOLUME, True)
    assert "the state is whole" in report.steps[-1].detail
    (pod,) = world.node.ran
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "phoenix:1"
    assert container["command"][:3] == ["/usr/local/bin/verify-state", "--folder", "/state/state"]
    assert container["volumeMounts"][0]["readOnly"] is True
    await nothing_left(world)
    one = await asyncio.to_thread(world.backups().one, published.manifest.id)
    assert one.level is Level.LOADED
    assert published.manifest.content["snapshotHandle"] in world.storage.snapshots


async def test_a_state_that_is_not_whole_fails_the_drill(world: ClaimWorld) -> None:
    await world.run()
    world.node.broken = "orders.db: malformed"
    report = await drill(world)
    assert not report.passed
    assert "orders.db: malformed" in report.steps[-1].detail
    await nothing_left(world)


async def test_a_class_that_keeps_volumes_is_not_filled(world: ClaimWorld) -> None:
    await world.run()
    report = await drill(world, {"drillClass": "keeps"})
    assert "each time it would leave one" in report.steps[-1].detail
    assert not world.node.ran
    assert (await drill(world, {"drillClass": FAST})).steps[-1].passed
    await nothing_left(world)


async def test_what_a_drill_that_died_has_left_goes_with_the_next_one(
    world: ClaimWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.run()
    world.node.away = True
    task = asyncio.create_task(drill(world))
    async with asyncio.timeout(60):
        while not (found := (await world.kube.list(CLAIMS, labels=SCRATCH)).items):
            await asyncio.sleep(0.1)
    (left,) = found
    # the same labels as of one that died: this one is still at it, and is taken for it
    spec = {**left["spec"], "volumeName": None}
    metadata = {"name": "left", "labels": left["metadata"]["labels"]}
    await world.kube.create(CLAIMS, {"metadata": metadata, "spec": spec})
    world.node.away = False
    assert (await task).steps[-1].passed
    await nothing_left(world)
