"""Snapshots of claims as backups: listed, verified, pruned for good, whatever dies or is lost meanwhile."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.claim_world import SHOP, ClaimWorld, claim_world, pruned
from tests.cluster.kubectl import Cluster

from phoenix_orch.kernel.errors import Invalid, NotFound, Terminal
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import Resource
from phoenix_orch.orchestrator.backups import Backups
from phoenix_orch.recovery.manifest import Level
from phoenix_orch.recovery.prune import Step
from phoenix_orch.recovery.sources.snapshot_plan import CONTENTS, SNAPSHOTS, snapshot_of

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]
ROOT = Path(__file__).parents[2]
DAY = timedelta(days=1)


@pytest.fixture
async def world(
    cluster: Cluster, kube: KubeClient, namespace: str, tmp_path: Path
) -> AsyncIterator[ClaimWorld]:
    async with claim_world(cluster, kube, namespace, tmp_path) as made:
        yield made


async def until(condition: Any) -> None:
    async with asyncio.timeout(90):
        while not condition():
            await asyncio.sleep(0.1)


async def names(world: ClaimWorld, kind: Resource, namespace: str = "") -> set[str]:
    return {one["metadata"]["name"] for one in (await world.kube.list(kind, namespace)).items}


async def contents(world: ClaimWorld) -> set[str]:
    """Of this namespace."""
    found = (await world.kube.list(CONTENTS)).items
    return {
        one["metadata"]["name"]
        for one in found
        if one["spec"]["volumeSnapshotRef"]["namespace"] == world.namespace
    }


async def asked_for_nothing_more(world: ClaimWorld) -> None:
    """What was made to ask the storage goes again."""
    async with asyncio.timeout(90):
        while len(await contents(world)) != 1:
            await asyncio.sleep(0.1)


async def test_a_snapshot_is_one_backup_that_was_looked_up_in_the_storage(world: ClaimWorld) -> None:
    published = await world.run()
    manifest = published.manifest
    assert manifest.stream.name == "snapshot.json"
    assert manifest.content["snapshotHandle"] in world.storage.snapshots
    assert (published.look.level, published.look.passed) == (Level.STRUCTURE, True)
    assert "the storage has" in published.look.detail
    (view,) = await asyncio.to_thread(world.backups().views, SHOP)
    (one,) = view.backups
    assert one.good
    assert one.level is Level.STRUCTURE
    await asked_for_nothing_more(world)


async def test_a_snapshot_that_the_storage_has_lost_does_not_hold(
    world: ClaimWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phoenix_orch.recovery.sources.snapshots.DOUBT", 1.0)
    published = await world.run()
    backups = world.backups()
    one = await asyncio.to_thread(backups.one, published.manifest.id)
    world.storage.snapshots.clear()
    look = await asyncio.to_thread(backups.verify, one)
    assert not look.passed
    assert "no more" in look.detail
    assert not (await asyncio.to_thread(backups.views, SHOP))[0].live[0].good
    await asked_for_nothing_more(world)


async def test_objects_that_the_cluster_has_lost_are_no_loss(world: ClaimWorld) -> None:
    published = await world.run()
    backups = world.backups()
    one = await asyncio.to_thread(backups.one, published.manifest.id)
    source = one.manifest.source
    for words in (("volumesnapshot", source["snapshot"]), ("volumesnapshotcontent", source["content"])):
        await asyncio.to_thread(world.cluster.kubectl, "delete", *words, "-n", world.namespace)
    look = await asyncio.to_thread(backups.verify, one)
    assert look.passed
    assert "had lost it" in look.detail
    (again,) = await contents(world)
    assert again != source["content"]
    await asyncio.to_thread(pruned, backups, SHOP, timedelta(0), last=1)
    await world.run()
    await asyncio.to_thread(pruned, backups, SHOP, timedelta(0))
    await asyncio.to_thread(pruned, backups, SHOP, 2 * DAY)
    await until(lambda: len(world.storage.snapshots) == 1)
    assert again not in await contents(world)


async def test_claims_with_labels_are_a_backup_each(world: ClaimWorld) -> None:
    several = {"shop": {"labels": {"app": "shop"}}}
    backups = world.backups(**several)
    with pytest.raises(NotFound, match="no claim in"):
        await asyncio.to_thread(backups.members, SHOP)
    assert [view.scope.component for view in await asyncio.to_thread(backups.views)] == ["config", SHOP]
    for number in range(2):
        await world.claim(f"data-shop-{number}", {"app": "shop"})
    members = await asyncio.to_thread(backups.members, SHOP)
    assert members == ["volume/shop.data-shop-0", "volume/shop.data-shop-1"]
    for member in members:
        await world.run(member, backups)
    views = await asyncio.to_thread(backups.views, SHOP)
    assert [view.scope.component for view in views] == members
    assert all(view.newest_good for view in views)
    with pytest.raises(Invalid, match="several components"):
        await asyncio.to_thread(backups.one, component=SHOP)
    one = await asyncio.to_thread(backups.one, component=members[1])
    assert one.manifest.source["claim"] == "data-shop-1"


async def expiring(world: ClaimWorld) -> tuple[Backups, str, str]:
    """Two backups, of which the older one is to be removed; and the handles of both."""
    old = (await world.run()).manifest.content["snapshotHandle"]
    new = (await world.run()).manifest.content["snapshotHandle"]
    return world.backups(), old, new


async def test_an_expired_snapshot_is_deleted_for_good_and_the_newest_never(world: ClaimWorld) -> None:
    backups, old, new = await expiring(world)
    done = await asyncio.to_thread(pruned, backups, SHOP, timedelta(0))
    assert len(done.marked) == 1
    assert old in world.storage.snapshots, "it is whole for a day"
    done = await asyncio.to_thread(pruned, backups, SHOP, 2 * DAY)
    assert len(done.removed) == 1
    await until(lambda: set(world.storage.snapshots) == {new})
    (view,) = await asyncio.to_thread(backups.views, SHOP)
    assert view.faults == ()
    assert [one.manifest.content["snapshotHandle"] for one in view.backups] == [new]
    async with asyncio.timeout(90):
        while len(await contents(world)) > 1 or len(await names(world, SNAPSHOTS, world.namespace)) > 1:
            await asyncio.sleep(0.1)
    for ahead in (4 * DAY, 400 * DAY):
        await asyncio.to_thread(pruned, backups, SHOP, ahead)
    assert set(world.storage.snapshots) == {new}
    assert (await asyncio.to_thread(backups.views, SHOP))[0].newest_good is not None


async def test_one_whose_namespace_is_lost_is_deleted_in_the_storage(
    world: ClaimWorld, kube: KubeClient, tmp_path: Path
) -> None:
    backups, old, new = await expiring(world)
    await asyncio.to_thread(world.cluster.kubectl, "delete", "namespace", world.namespace, "--timeout=120s")
    try:
        assert set(world.storage.snapshots) == {old, new}
        await asyncio.to_thread(pruned, backups, SHOP, timedelta(0))
        await asyncio.to_thread(pruned, backups, SHOP, 2 * DAY)
        await until(lambda: set(world.storage.snapshots) == {new})
    finally:
        world.cluster.kubectl("create", "namespace", world.namespace)


@pytest.mark.parametrize(
    "where", [*(one for one in Step if one is not Step.SWEPT), "write 1", "write 2", "write 3"]
)
async def test_a_prune_that_is_killed_is_ended_by_the_next_one(world: ClaimWorld, where: str) -> None:
    """After each step, and after each write to the cluster: the newest is whole, and of the other one all or
    nothing is told. Then nothing is left of it anywhere."""
    backups, old, new = await expiring(world)
    if where != Step.MARKED:
        await asyncio.to_thread(pruned, backups, SHOP, timedelta(0))
    days = "0" if where == Step.MARKED else "2"
    kubeconfig = str(world.cluster.kubeconfig)
    words = ("-m", "tests.cluster.claim_world", str(world.folder), kubeconfig, world.namespace, days, where)
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if where == "write 3" and done.returncode == 0:
        done.returncode = -signal.SIGKILL  # the controller was quicker with the content
    assert done.returncode == -signal.SIGKILL, done.stderr
    (view,) = await asyncio.to_thread(backups.views, SHOP)
    assert view.faults == ()
    handles = [one.manifest.content["snapshotHandle"] for one in view.backups]
    assert handles == ([new, old] if where == Step.MARKED else [new])
    assert view.live[0].good
    assert new in world.storage.snapshots
    if len(handles) == 2:
        assert old in world.storage.snapshots
    for ahead in (2 * DAY, 3 * DAY):
        await asyncio.to_thread(pruned, backups, SHOP, ahead)
    await until(lambda: set(world.storage.snapshots) == {new})
    async with asyncio.timeout(90):
        while len(await contents(world)) > 1:
            await asyncio.sleep(0.1)
    assert len(list((world.folder / "bucket").rglob("data.*"))) == 1


async def test_what_was_sealed_anew_keeps_its_snapshot(world: ClaimWorld) -> None:
    """Two backups stand for one snapshot, until the first one is gone."""
    published = await world.run()
    backups = world.backups()
    one = await asyncio.to_thread(backups.one, published.manifest.id)
    other = backups.recipients[::-1]
    backups.recipients = [*other[:1], *other[1:]]
    rekeyer = backups.rekeyer(backups.identities)
    await asyncio.to_thread(rekeyer.rekey, one, "a test")
    await asyncio.to_thread(pruned, backups, SHOP, 2 * DAY)
    (view,) = await asyncio.to_thread(backups.views, SHOP)
    assert [left.manifest.parent is not None for left in view.backups] == [True]
    assert set(world.storage.snapshots) == {published.manifest.content["snapshotHandle"]}


async def test_a_run_that_died_leaves_a_snapshot_that_is_swept(
    world: ClaimWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken, and never published."""
    kept = (await world.run()).manifest.source["snapshot"]
    labels = dict((await world.kube.get(SNAPSHOTS, kept, world.namespace))["metadata"]["labels"])
    claim = {"metadata": {"name": "data", "namespace": world.namespace}}
    await world.kube.create(SNAPSHOTS, snapshot_of(claim, "left", "fast", labels))
    await world.kube.create(SNAPSHOTS, snapshot_of(claim, "yours", "fast", {}))
    await until(lambda: len(world.storage.snapshots) == 3)
    backups = world.backups()
    assert (await asyncio.to_thread(pruned, backups, SHOP, timedelta(0))).swept == ()
    monkeypatch.setattr("phoenix_orch.orchestrator.cluster.volumes.ORPHANS", timedelta(0))
    done = await asyncio.to_thread(pruned, backups, SHOP, timedelta(0))
    assert done.swept == (f"volumesnapshot/{world.namespace}/left",)
    await until(lambda: len(world.storage.snapshots) == 2)
    assert await names(world, SNAPSHOTS, world.namespace) == {kept, "yours"}


async def test_a_failed_run_publishes_nothing_and_leaves_no_snapshot(world: ClaimWorld) -> None:
    world.storage.fault = "quota exceeded"
    backups = world.backups(shop={"claim": "data", "timeout": "2s"})
    with pytest.raises(Terminal, match="quota exceeded"):
        await world.run(SHOP, backups)
    (view,) = await asyncio.to_thread(backups.views, SHOP)
    assert view.backups == ()
    async with asyncio.timeout(90):
        while await names(world, SNAPSHOTS, world.namespace):
            await asyncio.sleep(0.1)
