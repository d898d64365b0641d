"""Claims restored on a real API server: of StatefulSets, of Deployments, lost ones, killed anywhere."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.claim_world import FAST, SHOP, ClaimWorld, backups_in, claim_world, die
from tests.cluster.job_node import JOB_LABEL
from tests.cluster.kubectl import Cluster
from tests.cluster.snapshot_controller import volume

from phoenix_orch.kernel.errors import BadState, NotFound, Outdated, Terminal
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import DEPLOYMENTS, PODS, STATEFUL_SETS, Object
from phoenix_orch.orchestrator import volume_restore
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.orchestrator.volume_restore import VolumePlan, VolumeRestored, Wanted
from phoenix_orch.recovery.restore.exchange_plan import KEPT, NOTE, PLACE, STOPPED
from phoenix_orch.recovery.restore.state_job import JOBS
from phoenix_orch.recovery.restore.volume_exchange import Step
from phoenix_orch.recovery.sources.snapshot_plan import CLAIMS, CONTENTS, VOLUMES

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]
ROOT = Path(__file__).parents[2]
CLAIM = "data-shop-1"
TEMPLATE = {
    "accessModes": ["ReadWriteOnce"],
    "storageClassName": FAST,
    "resources": {"requests": {"storage": "1Gi"}},
}
KEEP = datetime(2026, 12, 24, tzinfo=UTC)
PATIENCE = timedelta(seconds=60)


@pytest.fixture
async def world(
    cluster: Cluster, kube: KubeClient, namespace: str, tmp_path: Path
) -> AsyncIterator[ClaimWorld]:
    """Two claims of a StatefulSet, and one of a Deployment."""
    async with claim_world(cluster, kube, namespace, tmp_path) as made:
        for number in range(2):
            await made.claim(f"data-shop-{number}", {"app": "shop"})
        yield made


def template(**volumes: str) -> Object:
    claims = [{"name": name, "persistentVolumeClaim": {"claimName": of}} for name, of in volumes.items()]
    return {
        "metadata": {"labels": {"app": "shop"}},
        "spec": {"containers": [{"name": "shop", "image": "shop"}], "volumes": claims},
    }


async def stateful_set(world: ClaimWorld, **spec: Any) -> None:
    claim = {"metadata": {"name": "data"}, "spec": TEMPLATE}
    body = {
        "metadata": {"name": "shop"},
        "spec": {
            "replicas": 2,
            "serviceName": "shop",
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": "shop"}},
            "template": template(),
            "volumeClaimTemplates": [claim],
            **spec,
        },
    }
    await world.kube.create(STATEFUL_SETS, body)
    await pods(world, 2)


async def pods(world: ClaimWorld, count: int) -> None:
    async with asyncio.timeout(90):
        while len((await world.kube.list(PODS, labels="app=shop")).items) != count:
            await asyncio.sleep(0.1)


async def volume_of(world: ClaimWorld, claim: str) -> Object:
    async with asyncio.timeout(90):
        while (found := await world.kube.get(CLAIMS, claim)).get("status", {}).get("phase") != "Bound":
            await asyncio.sleep(0.1)
    return await world.kube.get(VOLUMES, found["spec"]["volumeName"])


async def made_of(world: ClaimWorld, claim: str) -> str | None:
    """The snapshot that its volume was made of."""
    return world.storage.volumes.get((await volume_of(world, claim))["spec"]["csi"]["volumeHandle"])


def access(world: ClaimWorld) -> Access:
    return Access(world.namespace, world.cluster.kubeconfig)


async def wanted(world: ClaimWorld, claim: str = CLAIM) -> Wanted:
    """The newest backup of a claim, which is taken now."""
    backups = world.backups(shop={"claim": claim})
    published = await world.run(SHOP, backups)
    one = await asyncio.to_thread(backups.one, published.manifest.id)
    return await asyncio.to_thread(volume_restore.of_backup, backups, one, None)


async def planned(world: ClaimWorld, what: Wanted) -> VolumePlan:
    return await asyncio.to_thread(volume_restore.plan, what, access(world))


async def restored(world: ClaimWorld, what: Wanted, hash_: str = "", **more: Any) -> VolumeRestored:
    confirmed = hash_ or (await planned(world, what)).hash
    more = {"within": PATIENCE, "keep_until": KEEP, **more}
    return await asyncio.to_thread(volume_restore.run, what, access(world), confirmed, **more)


async def tidy(world: ClaimWorld, claims: set[str]) -> None:
    """Nothing of a restore is left but the volume that is kept."""
    async with asyncio.timeout(90):
        while {one["metadata"]["name"] for one in (await world.kube.list(CLAIMS)).items} != claims:
            await asyncio.sleep(0.1)
        while (await world.kube.list(JOBS)).items:
            await asyncio.sleep(0.1)
    for one in (await world.kube.list(VOLUMES)).items:
        assert NOTE not in (one["metadata"].get("annotations") or {})
        assert PLACE not in (one["metadata"].get("labels") or {})
    refs = [one["spec"]["volumeSnapshotRef"] for one in (await world.kube.list(CONTENTS)).items]
    assert len([ref for ref in refs if ref["namespace"] == world.namespace]) == 1
    for kind in (STATEFUL_SETS, DEPLOYMENTS):
        for found in (await world.kube.list(kind)).items:
            assert STOPPED not in (found["metadata"].get("annotations") or {})
            assert found["spec"]["replicas"] == 2


ALL = {"data", "data-shop-0", "data-shop-1"}


async def test_a_claim_of_a_stateful_set_keeps_its_name(world: ClaimWorld) -> None:
    await stateful_set(world)
    what = await wanted(world)
    before, other = await volume_of(world, CLAIM), await volume_of(world, "data-shop-0")
    plan = await planned(world, what)
    assert plan.stopped == ("StatefulSet shop",)
    assert plan.old_volume == before["metadata"]["name"]
    assert len(plan.steps) == 3
    done = await restored(world, what, plan.hash)
    assert "the state is whole" in done.seen
    assert await made_of(world, CLAIM) == what.one.handle
    assert (await world.kube.get(CLAIMS, CLAIM))["metadata"]["labels"] == {"app": "shop"}
    new = await volume_of(world, CLAIM)
    assert new["spec"]["persistentVolumeReclaimPolicy"] == "Delete", "as its class has it"
    old = await world.kube.get(VOLUMES, before["metadata"]["name"])
    assert old["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert old["metadata"]["annotations"][KEPT] == KEEP.isoformat()
    assert (await volume_of(world, "data-shop-0"))["metadata"]["uid"] == other["metadata"]["uid"]
    await pods(world, 2)
    await tidy(world, ALL)
    with pytest.raises(Outdated):
        await restored(world, what, plan.hash)

    # the way back: the old volume under the same name again
    one = await asyncio.to_thread(
        volume_restore.back,
        CLAIM,
        before["metadata"]["name"],
        access(world),
        world.namespace,
        within=PATIENCE,
        keep_until=KEEP,
    )
    assert one.old_volume == new["metadata"]["name"]
    found = await volume_of(world, CLAIM)
    assert found["metadata"]["uid"] == before["metadata"]["uid"]
    assert KEPT not in (found["metadata"].get("annotations") or {})
    await pods(world, 2)
    await tidy(world, ALL)


async def test_a_claim_of_a_deployment_keeps_its_name(world: ClaimWorld) -> None:
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "shop"}}, "template": template(state="data")}
    await world.kube.create(DEPLOYMENTS, {"metadata": {"name": "web"}, "spec": spec})
    await pods(world, 2)
    what = await wanted(world, "data")
    assert (await planned(world, what)).stopped == ("Deployment web",)
    await restored(world, what)
    assert await made_of(world, "data") == what.one.handle
    await pods(world, 2)
    await tidy(world, ALL)


async def test_a_claim_that_is_lost_with_its_snapshot_objects_comes_back(world: ClaimWorld) -> None:
    what = await wanted(world)
    for words in (("pvc", CLAIM), ("volumesnapshot", what.one.snapshot)):
        await asyncio.to_thread(world.cluster.kubectl, "delete", *words, "-n", world.namespace)
    await asyncio.to_thread(world.cluster.kubectl, "delete", "volumesnapshotcontent", what.one.content)
    plan = await planned(world, what)
    assert (plan.old_volume, plan.stopped) == ("", ())
    assert "by its handle" in plan.snapshot
    await restored(world, what, plan.hash)
    assert await made_of(world, CLAIM) == what.one.handle
    assert (await world.kube.get(CLAIMS, CLAIM))["metadata"]["labels"] == {"app": "shop"}


async def test_a_state_that_is_not_whole_changes_nothing(world: ClaimWorld) -> None:
    await stateful_set(world)
    what, before = await wanted(world), await volume_of(world, CLAIM)
    world.node.broken = "orders.db: malformed"
    with pytest.raises(Terminal, match=r"orders\.db: malformed"):
        await restored(world, what)
    assert (await volume_of(world, CLAIM))["metadata"]["uid"] == before["metadata"]["uid"]
    await pods(world, 2)


async def test_pods_that_do_not_end_change_nothing(world: ClaimWorld) -> None:
    await stateful_set(world)
    what, before = await wanted(world), await volume_of(world, CLAIM)
    mine = {"metadata": {"name": "mine"}, "spec": template(state=CLAIM)["spec"]}
    await world.kube.create(PODS, mine)
    with pytest.raises(Terminal, match="pods that use data-shop-1 have not ended: mine"):
        await restored(world, what, within=timedelta(seconds=3))
    assert (await volume_of(world, CLAIM))["metadata"]["uid"] == before["metadata"]["uid"]
    await pods(world, 2)
    await asyncio.to_thread(world.cluster.kubectl, "delete", "pod", "mine", "-n", world.namespace)
    await restored(world, what)
    assert await made_of(world, CLAIM) == what.one.handle
    await tidy(world, ALL)


async def test_a_pod_that_has_ended_and_holds_the_claim_is_told_before_anything_changes(
    world: ClaimWorld,
) -> None:
    """A Job of the application has left one: the claim would wait for it, deleted, with nobody at work."""
    await stateful_set(world)
    what, before = await wanted(world), await volume_of(world, CLAIM)
    job = {"template": {"spec": {**template(state=CLAIM)["spec"], "restartPolicy": "Never"}}}
    await world.kube.create(JOBS, {"metadata": {"name": "nightly"}, "spec": job})
    async with asyncio.timeout(90):
        while not (pod := await ended_of(world, "nightly")):
            await asyncio.sleep(0.1)
    with pytest.raises(BadState, match=f"pods that have ended keep the claim {CLAIM}: {pod}") as refused:
        await planned(world, what)
    assert refused.value.remedy.endswith(f"kubectl delete pod -n {world.namespace} {pod}")
    with pytest.raises(BadState, match="keep the claim"):
        await asyncio.to_thread(
            volume_restore.back,
            CLAIM,
            (await spare(world))["metadata"]["name"],
            access(world),
            world.namespace,
            within=PATIENCE,
            keep_until=KEEP,
        )
    assert (await volume_of(world, CLAIM))["metadata"]["uid"] == before["metadata"]["uid"]
    assert "deletionTimestamp" not in (await world.kube.get(CLAIMS, CLAIM))["metadata"]
    await pods(world, 2)
    await asyncio.to_thread(world.cluster.kubectl, "delete", "job", "nightly", "-n", world.namespace)
    await restored(world, what)
    assert await made_of(world, CLAIM) == what.one.handle


async def ended_of(world: ClaimWorld, job: str) -> str:
    """The name of its pod, once it has ended and has a node; empty until then."""
    for one in (await world.kube.list(PODS, labels=f"{JOB_LABEL}={job}")).items:
        if one["spec"].get("nodeName") and one["status"]["phase"] == "Succeeded":
            return str(one["metadata"]["name"])
    return ""


async def spare(world: ClaimWorld) -> Object:
    """A volume that no claim has: the one that it is meant for is not there."""
    meant = {"namespace": world.namespace, "name": "none"}
    return await world.kube.create(VOLUMES, volume(f"pv-{world.namespace}-spare", "spare", TEMPLATE, meant))


async def test_a_set_that_would_delete_its_claims_is_refused(world: ClaimWorld) -> None:
    policy = {"whenDeleted": "Retain", "whenScaled": "Delete"}
    await stateful_set(world, persistentVolumeClaimRetentionPolicy=policy)
    what = await wanted(world)
    with pytest.raises(BadState, match="deletes its claims when it is scaled down"):
        await planned(world, what)


async def test_a_volume_that_a_claim_has_is_not_taken_from_it(world: ClaimWorld) -> None:
    volume = (await volume_of(world, "data-shop-0"))["metadata"]["name"]
    with pytest.raises(BadState, match="belongs to the claim data-shop-0"):
        await asyncio.to_thread(
            volume_restore.back,
            CLAIM,
            volume,
            access(world),
            world.namespace,
            within=PATIENCE,
            keep_until=KEEP,
        )


class Killed(BaseException):
    """A process that is gone: nothing of it catches this."""


def dies_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The restore, which runs in a thread; the storage plays in the main one."""
    left = count
    for name in ("create", "patch", "delete"):
        real = getattr(KubeClient, name)

        async def counted(self: KubeClient, *words: Any, real: Any = real, **more: Any) -> Any:
            nonlocal left
            done = await real(self, *words, **more)
            if threading.current_thread() is not threading.main_thread():
                left -= 1
                if left == 0:
                    raise Killed
            return done

        monkeypatch.setattr(KubeClient, name, counted)


async def old_or_restored(world: ClaimWorld, before: Object, handle: str) -> None:
    """The claim has its old volume, or the restored one; or it is gone for a moment, and whoever makes it
    gets the restored one. The old volume is there in any case."""
    there = await world.kube.get(VOLUMES, before["metadata"]["name"])
    assert there["spec"]["csi"] == before["spec"]["csi"]
    try:
        claim = await world.kube.get(CLAIMS, CLAIM)
    except NotFound:
        waiting = (await world.kube.list(VOLUMES, labels=PLACE)).items
        (reserved,) = [one for one in waiting if one["spec"]["claimRef"]["namespace"] == world.namespace]
        assert reserved["spec"]["claimRef"]["name"] == CLAIM
        assert world.storage.volumes[reserved["spec"]["csi"]["volumeHandle"]] == handle
        return
    if claim["spec"]["volumeName"] != before["metadata"]["name"]:
        made = await world.kube.get(VOLUMES, claim["spec"]["volumeName"])
        assert world.storage.volumes[made["spec"]["csi"]["volumeHandle"]] == handle


async def test_killed_after_any_of_its_writes_it_goes_on(
    world: ClaimWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command ends it."""
    await stateful_set(world)
    what = await wanted(world)
    writes = 0
    while True:
        writes += 1
        before, plan = await volume_of(world, CLAIM), await planned(world, what)
        with monkeypatch.context() as patched:
            dies_after(patched, writes)
            try:
                await restored(world, what, plan.hash)
                ended = True
            except Killed:
                ended = False
        await old_or_restored(world, before, what.one.handle)
        if not ended and not await done_already(world, before):
            assert (await planned(world, what)).hash == plan.hash
            await restored(world, what, plan.hash)
        now = await volume_of(world, CLAIM)
        assert now["metadata"]["uid"] != before["metadata"]["uid"]
        assert await made_of(world, CLAIM) == what.one.handle
        await pods(world, 2)
        await tidy(world, ALL)
        if ended:
            break
    assert writes == WRITES + 1


WRITES = 12
"""Of one restore of a claim that a StatefulSet uses."""


async def done_already(world: ClaimWorld, before: Object) -> bool:
    """All is done, and nothing is noted of it any more."""
    try:
        found = await world.kube.get(CLAIMS, CLAIM)
    except NotFound:
        return False
    noted = (await world.kube.list(VOLUMES, labels=PLACE)).items
    return not noted and found["spec"]["volumeName"] != before["metadata"]["name"]


@pytest.mark.parametrize("where", [Step.FREED, Step.GONE])
async def test_killed_by_the_kernel_it_goes_on(world: ClaimWorld, where: Step) -> None:
    await stateful_set(world)
    what = await wanted(world)
    before, plan = await volume_of(world, CLAIM), await planned(world, what)
    words = (world.folder, world.cluster.kubeconfig, world.namespace, what.backup, plan.hash, where)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.cluster.test_claim_restore", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    await old_or_restored(world, before, what.one.handle)
    assert (await planned(world, what)).begun
    if where is Step.GONE:  # somebody has the set make its claim in that very moment
        await world.kube.create(CLAIMS, {"metadata": {"name": CLAIM}, "spec": TEMPLATE})
        async with asyncio.timeout(90):
            while (await world.kube.get(CLAIMS, CLAIM)).get("status", {}).get("phase") != "Bound":
                await asyncio.sleep(0.1)
        assert await made_of(world, CLAIM) == what.one.handle
    await restored(world, what, plan.hash)
    assert await made_of(world, CLAIM) == what.one.handle
    await pods(world, 2)
    await tidy(world, ALL)


def main(folder: str, kubeconfig: str, namespace: str, backup: str, hash_: str, wanted: str) -> None:
    """The process that restores and is killed."""

    def told(step: Step) -> None:
        if step == wanted:
            die()

    backups = backups_in(Path(folder), Path(kubeconfig), namespace, {"shop": {"claim": CLAIM}})
    what = volume_restore.of_backup(backups, backups.one(backup), None)
    there = Access(namespace, Path(kubeconfig))
    volume_restore.run(what, there, hash_, within=PATIENCE, keep_until=KEEP, told=told)


if __name__ == "__main__":
    main(*sys.argv[1:])
