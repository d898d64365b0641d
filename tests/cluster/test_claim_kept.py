"""What restores of claims have kept: listed with why it stays, and deleted when a person confirms it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.claim_world import ClaimWorld, claim_world
from tests.cluster.kubectl import Cluster
from tests.cluster.test_claim_abort import phoenix, taken_back, volumes
from tests.cluster.test_claim_restore import (
    CLAIM,
    access,
    pods,
    restored,
    stateful_set,
    template,
    volume_of,
    wanted,
)

from phoenix_orch.kernel.errors import NotFound, Outdated, Terminal
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.patches import merge_patch_of
from phoenix_orch.kube.resources import DEPLOYMENTS, PODS, Object
from phoenix_orch.orchestrator import kept_states
from phoenix_orch.orchestrator.kept_states import KeptList
from phoenix_orch.recovery.restore.acts import Acts
from phoenix_orch.recovery.restore.exchange_plan import KEPT
from phoenix_orch.recovery.restore.kept import KeptStates
from phoenix_orch.recovery.restore.kept_plan import PROVISIONER
from phoenix_orch.recovery.restore.volume_swap import NOTE as SWAP
from phoenix_orch.recovery.sources.snapshot_plan import CLAIMS, VOLUMES

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]
PAST = datetime(2026, 1, 1, tzinfo=UTC)
FUTURE = datetime(2999, 1, 1, tzinfo=UTC)


@pytest.fixture
async def world(
    cluster: Cluster, kube: KubeClient, namespace: str, tmp_path: Path
) -> AsyncIterator[ClaimWorld]:
    async with claim_world(cluster, kube, namespace, tmp_path) as made:
        for number in range(2):
            await made.claim(f"data-shop-{number}", {"app": "shop"})
        yield made


async def listed(world: ClaimWorld, confirmed: str = "", within: float = 60, **more: Any) -> KeptList:
    patience = timedelta(seconds=within)
    return await asyncio.to_thread(kept_states.in_cluster, access(world), confirmed, within=patience, **more)


async def marked(world: ClaimWorld, kind: Any, name: str, changes: Object) -> None:
    place = world.namespace if kind.namespaced else ""
    found = await world.kube.get(kind, name, place)
    await world.kube.patch(kind, name, merge_patch_of(found, changes), place)


def until(text: str | None) -> Object:
    return {"metadata": {"annotations": {KEPT: text}}}


async def stays(world: ClaimWorld, name: str) -> str:
    (found,) = [one for one in (await listed(world)).kept if one.name == name]
    return found.stays


async def there(world: ClaimWorld, kind: Any, name: str) -> bool:
    try:
        await world.kube.get(kind, name, world.namespace if kind.namespaced else "")
    except NotFound:
        return False
    return True


async def test_a_volume_goes_when_its_time_is_over_and_a_person_says_so(world: ClaimWorld) -> None:
    """From the restore that keeps it to the storage that has it no more, by the words that are told."""
    there_ = ("-n", world.namespace, "--kubeconfig", str(world.cluster.kubeconfig))
    assert "no restore has kept anything" in await phoenix(world, "restore", "kept", *there_)
    await stateful_set(world)
    what = await wanted(world)
    old = (await volume_of(world, CLAIM))["metadata"]["name"]
    await restored(world, what, keep_until=FUTURE)
    new = (await volume_of(world, CLAIM))["metadata"]["name"]
    said = await phoenix(world, "restore", "kept", *there_)
    assert old in said
    assert "its time has not come" in said
    assert "none of it may go" in said
    assert new not in said
    assert "nothing by now" in await phoenix(world, "restore", "kept", *there_, "--confirm", "00", status=1)

    await marked(world, VOLUMES, old, until(PAST.isoformat()))
    said = await phoenix(world, "restore", "kept", *there_)
    again = said.splitlines()[-1]
    assert again.startswith(f"delete 1: phoenix restore kept -n {world.namespace}")
    words = again.removeprefix("delete 1: phoenix ").split()
    wrong = await phoenix(world, *words[:-1], "0000000000", status=1)
    assert "was confirmed" in wrong
    tried = json.loads(await phoenix(world, *words, "--dry-run", "-o", "json"))
    assert tried["deleted"] == []
    assert await there(world, VOLUMES, old)
    assert "1 were deleted, 0 are kept" in await phoenix(world, *words, "--reason", "room")
    assert not await there(world, VOLUMES, old)
    assert (await volume_of(world, CLAIM))["metadata"]["name"] == new
    await pods(world, 2)

    # told before and after
    acts = Acts(world.folder / "person/restores").all()
    told = [one for one in acts if one.action == "restore.kept"]
    assert [one.outcome.value for one in told] == ["asked", "done"]
    assert told[0].after["going"] == [f"PersistentVolume {old}"]
    assert told[1].after["deleted"] == [old]
    assert {one.reason for one in told} == {"room"}


async def test_what_is_had_or_needed_stays_whatever_its_mark_says(
    world: ClaimWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stateful_set(world)
    what = await wanted(world)
    old = (await volume_of(world, CLAIM))["metadata"]["name"]
    await restored(world, what, keep_until=PAST)
    new = (await volume_of(world, CLAIM))["metadata"]["name"]
    assert await stays(world, old) == ""

    # one that a claim has, one without Phoenix's mark, one that is kept for ever, one of no provisioner
    await marked(world, VOLUMES, new, until(PAST.isoformat()))
    assert await stays(world, new) == f"the claim {CLAIM} has it"
    await marked(world, VOLUMES, new, until(None))
    assert [one.name for one in (await listed(world)).kept] == [old]
    await marked(world, VOLUMES, old, until("for ever"))
    assert await stays(world, old) == "it is kept until 'for ever', which is no time"
    await marked(world, VOLUMES, old, until("2026-01-01T00:00:00"))
    assert "which is no time" in await stays(world, old), "without a zone it may be any of a day"
    await marked(world, VOLUMES, old, until(PAST.isoformat()))
    provisioner = (await world.kube.get(VOLUMES, old))["metadata"]["annotations"][PROVISIONER]
    await marked(world, VOLUMES, old, {"metadata": {"annotations": {PROVISIONER: None}}})
    assert "no provisioner has made it" in await stays(world, old)
    await marked(world, VOLUMES, old, {"metadata": {"annotations": {PROVISIONER: provisioner}}})

    # another object for the same thing in the storage
    twin = await world.kube.get(VOLUMES, old)
    body = {
        "metadata": {"name": f"{old}-twin"},
        "spec": {**twin["spec"], "claimRef": {"namespace": world.namespace, "name": "none"}},
    }
    await world.kube.create(VOLUMES, body)
    assert await stays(world, old) == f"{old}-twin is the same in the storage"
    await asyncio.to_thread(world.cluster.kubectl, "delete", "pv", f"{old}-twin")

    # one that waits for whoever makes a claim of its name
    reference = (await world.kube.get(VOLUMES, old))["spec"]["claimRef"]
    await marked(world, VOLUMES, old, {"spec": {"claimRef": {"uid": None, "resourceVersion": None}}})
    assert "a claim has it, or would get it" in await stays(world, old)
    await marked(world, VOLUMES, old, {"spec": {"claimRef": reference}})

    # confirmed, and then somebody changes it: it stays
    found = await listed(world)
    real = KeptStates.delete

    async def late(self: Any, one: Any) -> None:
        await marked(world, VOLUMES, one.name, {"metadata": {"labels": {"mine": "yes"}}})
        await real(self, one)

    with monkeypatch.context() as patched:
        patched.setattr(KeptStates, "delete", late)
        with pytest.raises(Outdated, match="has changed since it was looked at, and stays"):
            await kept_on_this_loop(world, found.hash)
    assert (await world.kube.get(VOLUMES, old))["spec"]["persistentVolumeReclaimPolicy"] == "Retain"

    # the way back needs it, and takes the mark
    await taken_back(world, old)
    assert old not in {one.name for one in (await listed(world)).kept}
    assert (await volume_of(world, CLAIM))["metadata"]["name"] == old
    assert new in await volumes(world)


async def kept_on_this_loop(world: ClaimWorld, confirmed: str) -> KeptList:
    states = KeptStates(world.kube, world.namespace, timeout=timedelta(seconds=60))
    return await kept_states.done(states, confirmed)


async def test_one_that_the_storage_does_not_delete_is_told_and_waited_for_again(world: ClaimWorld) -> None:
    await stateful_set(world)
    what = await wanted(world)
    old = (await volume_of(world, CLAIM))["metadata"]["name"]
    await restored(world, what, keep_until=PAST)
    world.storage.absent = True
    found = await listed(world)
    with pytest.raises(Terminal, match="was let go of, and is there still"):
        await listed(world, found.hash, within=1)
    again = await listed(world)
    assert [one.name for one in again.going] == [old]

    def there_again(_: str) -> None:
        world.storage.absent = False

    assert (await listed(world, again.hash, tell=there_again)).deleted == (old,)
    assert not await there(world, VOLUMES, old)


async def test_a_claim_that_a_deployment_had_goes_when_nobody_uses_it(world: ClaimWorld) -> None:
    """As `phoenix restore run claim` keeps it."""
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "shop"}}, "template": template(state="data")}
    web = await world.kube.create(DEPLOYMENTS, {"metadata": {"name": "web"}, "spec": spec})
    await marked(world, CLAIMS, "data", until(PAST.isoformat()))
    assert await stays(world, "data") == "Deployment web has it"
    await world.kube.delete(DEPLOYMENTS, "web", uid=web["metadata"]["uid"])
    cron = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "night", "namespace": world.namespace},
        "spec": {
            "schedule": "0 3 1 1 *",
            "jobTemplate": {"spec": {"template": _ending(template(state="data"))}},
        },
    }
    world.cluster.apply(cron)
    assert await stays(world, "data") == "CronJob night has it"
    world.cluster.kubectl("delete", "cronjob", "night", "-n", world.namespace)
    await world.kube.create(
        PODS, {"metadata": {"name": "mine"}, "spec": template(state="data")["spec"]}, world.namespace
    )
    assert await stays(world, "data") == "Pod mine has it"
    await asyncio.to_thread(world.cluster.kubectl, "delete", "pod", "mine", "-n", world.namespace)
    noted = json.dumps({"old": "data", "new": "other", "replicas": 1})
    swapping = {
        "metadata": {"name": "web", "annotations": {SWAP: noted}},
        "spec": {**spec, "template": template(state="other")},
    }
    web = await world.kube.create(DEPLOYMENTS, swapping)
    assert await stays(world, "data") == "Deployment web has it", "an exchange that has not ended"
    await world.kube.delete(DEPLOYMENTS, "web", uid=web["metadata"]["uid"])
    async with asyncio.timeout(60):
        while await stays(world, "data"):
            await asyncio.sleep(0.1)
    found = await listed(world)
    assert [(one.kind, one.name) for one in found.going] == [("PersistentVolumeClaim", "data")]
    assert (await listed(world, found.hash)).deleted == ("data",)
    assert not await there(world, CLAIMS, "data")
    assert await there(world, CLAIMS, "data-shop-0")


def _ending(made: Object) -> Object:
    return {**made, "spec": {**made["spec"], "restartPolicy": "Never"}}
