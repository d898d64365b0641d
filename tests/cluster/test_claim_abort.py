"""A restore of a claim that died is ended, or gone on with; and the API server goes away on the way back."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.api_way import way_to
from tests.cluster.claim_world import ClaimWorld, claim_world
from tests.cluster.kubectl import Cluster
from tests.cluster.test_claim_restore import (
    ALL,
    CLAIM,
    KEEP,
    PATIENCE,
    TEMPLATE,
    WRITES,
    Killed,
    access,
    dies_after,
    made_of,
    planned,
    pods,
    restored,
    stateful_set,
    tidy,
    volume_of,
    wanted,
)

from phoenix_orch.cli.main import run
from phoenix_orch.kernel.errors import BadState, NotFound, Retryable
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import Object
from phoenix_orch.orchestrator import volume_restore
from phoenix_orch.orchestrator.cluster.access import Access
from phoenix_orch.recovery.restore.exchange_plan import KEPT
from phoenix_orch.recovery.restore.volume_abort import Begun
from phoenix_orch.recovery.sources.snapshot_plan import CLAIMS, CONTENTS, SNAPSHOTS, VOLUMES

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]


@pytest.fixture
async def world(
    cluster: Cluster, kube: KubeClient, namespace: str, tmp_path: Path
) -> AsyncIterator[ClaimWorld]:
    async with claim_world(cluster, kube, namespace, tmp_path) as made:
        for number in range(2):
            await made.claim(f"data-shop-{number}", {"app": "shop"})
        yield made


async def aborted(world: ClaimWorld, backup: str = "") -> Begun:
    return await asyncio.to_thread(
        volume_restore.abort, CLAIM, backup, access(world), world.namespace, within=PATIENCE, keep_until=KEEP
    )


async def taken_back(world: ClaimWorld, volume: str, there: Access | None = None) -> None:
    await asyncio.to_thread(
        volume_restore.back,
        CLAIM,
        volume,
        there or access(world),
        world.namespace,
        within=PATIENCE,
        keep_until=KEEP,
    )


async def died(monkeypatch: pytest.MonkeyPatch, writes: int, act: Coroutine[Any, Any, object]) -> bool:
    """After so many writes to the cluster; False: it ended before."""
    with monkeypatch.context() as patched:
        dies_after(patched, writes)
        try:
            await act
        except Killed:
            return True
    return False


async def volumes(world: ClaimWorld) -> set[str]:
    """Of claims of this namespace, there or gone."""
    found = (await world.kube.list(VOLUMES)).items
    return {
        one["metadata"]["name"]
        for one in found
        if (one["spec"].get("claimRef") or {}).get("namespace") == world.namespace
    }


async def as_before(world: ClaimWorld, before: Object, known: set[str]) -> None:
    """The claim, its volume and what uses it; and nothing of the restore."""
    now = await volume_of(world, CLAIM)
    assert now["metadata"]["uid"] == before["metadata"]["uid"]
    assert now["spec"]["persistentVolumeReclaimPolicy"] == before["spec"]["persistentVolumeReclaimPolicy"]
    assert KEPT not in (now["metadata"].get("annotations") or {})
    await pods(world, 2)
    await tidy(world, ALL)
    async with asyncio.timeout(90):
        while await volumes(world) != known:
            await asyncio.sleep(0.1)


LATE = 9
"""The write by which the old claim is let go of: after it there is the way back alone."""


async def test_a_restore_that_died_after_any_of_its_writes_is_ended_or_gone_on_with(
    world: ClaimWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the old claim goes all is as it was; after that it is refused, and the same command ends it."""
    await stateful_set(world)
    what = await wanted(world)
    before, known = await volume_of(world, CLAIM), await volumes(world)
    for writes in range(1, WRITES):
        plan = await planned(world, what)
        assert await died(monkeypatch, writes, restored(world, what, plan.hash))
        if writes < LATE:
            begun = await aborted(world, what.backup)
            assert (begun.backup, begun.exchange is None) == (what.backup, writes < 4)
            await as_before(world, before, known)
            assert (await planned(world, what)).hash == plan.hash
            with pytest.raises(NotFound, match="under way"):
                await aborted(world, what.backup)
            continue
        with pytest.raises(BadState, match="has its old volume no more") as caught:
            await aborted(world)
        assert "give the command of the restore again" in caught.value.remedy
        assert before["metadata"]["name"] in caught.value.remedy
        await restored(world, what, plan.hash)
        assert await made_of(world, CLAIM) == what.one.handle
        await pods(world, 2)
        await taken_back(world, before["metadata"]["name"])
        before, known = await volume_of(world, CLAIM), await volumes(world)
        await tidy(world, ALL)


async def test_an_abort_that_died_after_any_of_its_writes_is_given_again(
    world: ClaimWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stateful_set(world)
    what = await wanted(world)
    before, known, writes = await volume_of(world, CLAIM), await volumes(world), 0
    while True:
        writes += 1
        hash_ = (await planned(world, what)).hash
        assert await died(monkeypatch, 6, restored(world, what, hash_))
        ended = not await died(monkeypatch, writes, aborted(world))
        if not ended:
            now = await volume_of(world, CLAIM)
            assert now["metadata"]["uid"] == before["metadata"]["uid"]
            with contextlib.suppress(NotFound):  # its last write was the one that ends it
                await aborted(world)
        await as_before(world, before, known)
        if ended:
            break
    assert writes >= 5


async def test_a_way_back_that_died_is_ended(world: ClaimWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The restored volume stays under the claim, and the old one is kept as it was."""
    await stateful_set(world)
    what = await wanted(world)
    old = (await volume_of(world, CLAIM))["metadata"]["name"]
    await restored(world, what)
    before, known = await volume_of(world, CLAIM), await volumes(world)
    for writes in (2, 3, 4):
        assert await died(monkeypatch, writes, taken_back(world, old))
        assert (await aborted(world)).backup == ""
        await as_before(world, before, known)
        kept = await world.kube.get(VOLUMES, old)
        assert kept["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
        assert kept["metadata"]["annotations"][KEPT] == KEEP.isoformat()
        async with asyncio.timeout(30):
            while (await world.kube.get(VOLUMES, old))["status"]["phase"] != "Released":
                await asyncio.sleep(0.1)
    await taken_back(world, old)
    assert (await volume_of(world, CLAIM))["metadata"]["name"] == old


async def phoenix(world: ClaimWorld, *words: str, status: int = 0) -> str:
    def said() -> tuple[int, str]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            found = run([*words, "--data-dir", str(world.folder / "person")])
        return found, out.getvalue()

    found, text = await asyncio.to_thread(said)
    assert found == status, text
    return text


async def test_a_restore_of_a_lost_snapshot_is_ended_by_the_words_that_are_told(
    world: ClaimWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was made to find it again goes, and the storage keeps it."""
    await stateful_set(world)
    what = await wanted(world)
    await asyncio.to_thread(
        world.cluster.kubectl, "delete", "volumesnapshot", what.one.snapshot, "-n", world.namespace
    )
    await asyncio.to_thread(world.cluster.kubectl, "delete", "volumesnapshotcontent", what.one.content)
    before, known = await volume_of(world, CLAIM), await volumes(world)
    there = ("-n", world.namespace, "--kubeconfig", str(world.cluster.kubeconfig))
    for writes in (2, 3, 6):
        hash_ = (await planned(world, what)).hash
        assert await died(monkeypatch, writes, restored(world, what, hash_))
        said = await phoenix(world, "restore", "abort", what.backup, "--claim", CLAIM, *there)
        assert f"{CLAIM} is as it was" in said
        now = await volume_of(world, CLAIM)
        assert now["metadata"]["uid"] == before["metadata"]["uid"]
        await pods(world, 2)
        async with asyncio.timeout(90):
            while (await world.kube.list(SNAPSHOTS, world.namespace)).items or await _contents(world):
                await asyncio.sleep(0.1)
            while await volumes(world) != known:
                await asyncio.sleep(0.1)
        assert set(world.storage.snapshots) == {what.one.handle}
    said = await phoenix(world, "restore", "abort", what.backup, "--claim", CLAIM, *there, status=2)
    assert "under way" in said
    said = await phoenix(world, "restore", "abort", "--claim", CLAIM, status=2)
    assert "-n NAME" in said
    await restored(world, what)
    assert await made_of(world, CLAIM) == what.one.handle


async def _contents(world: ClaimWorld) -> list[Object]:
    found = (await world.kube.list(CONTENTS)).items
    return [one for one in found if one["spec"]["volumeSnapshotRef"]["namespace"] == world.namespace]


async def _there(world: ClaimWorld) -> bool:
    with contextlib.suppress(NotFound):
        await world.kube.get(CLAIMS, CLAIM)
        return True
    return False


def cut_after(monkeypatch: pytest.MonkeyPatch, count: int, cut: Callable[[], None]) -> None:
    """So many writes of a thread that is not the storage's."""
    left = count
    for name in ("create", "patch", "delete"):
        real = getattr(KubeClient, name)

        async def counted(self: KubeClient, *words: Any, real: Any = real, **more: Any) -> Any:
            nonlocal left
            done = await real(self, *words, **more)
            if threading.current_thread() is not threading.main_thread():
                left -= 1
                if left == 0:
                    cut()
            return done

        monkeypatch.setattr(KubeClient, name, counted)


@pytest.mark.parametrize("writes", [1, 3, 5, 6])
async def test_the_api_goes_away_on_the_way_back(
    world: ClaimWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """It is told what to do; until then the claim has one of the two states whole, or the kept one waits for
    its name. The same words end it."""
    await stateful_set(world)
    what = await wanted(world)
    old = await volume_of(world, CLAIM)
    name = old["metadata"]["name"]
    await restored(world, what)
    new = await volume_of(world, CLAIM)
    async with way_to(world.cluster, tmp_path) as (way, kubeconfig):
        words = ["restore", "run", "volume", "--claim", CLAIM, "--volume", name, "-n", world.namespace]
        words += ["--kubeconfig", str(kubeconfig)]
        with monkeypatch.context() as patched:
            cut_after(patched, writes, way.cut)
            said = await phoenix(world, *words, status=Retryable.exit_code)
        assert "when the cluster answers again give the same command" in said
        assert f"phoenix restore abort --claim {CLAIM} -n {world.namespace}" in said
        for one in (old, new):
            kept = await world.kube.get(VOLUMES, one["metadata"]["name"])
            assert kept["spec"]["csi"] == one["spec"]["csi"]
        with contextlib.suppress(NotFound):
            there = (await world.kube.get(CLAIMS, CLAIM))["spec"]["volumeName"]
            assert there in {name, new["metadata"]["name"]}
        if writes == 5:  # the set's controller is quicker with the claim than a person with the command
            async with asyncio.timeout(90):
                while await _there(world):
                    await asyncio.sleep(0.1)
            await world.kube.create(CLAIMS, {"metadata": {"name": CLAIM}, "spec": TEMPLATE})
        await way.open()
        assert "again" in await phoenix(world, *words)
    found = await volume_of(world, CLAIM)
    assert found["metadata"]["uid"] == old["metadata"]["uid"]
    await pods(world, 2)
    await tidy(world, ALL)
