"""A KubernetesStore whose Valkey is stopped in the middle of its work: it accepts calls and says nothing."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import cast

import pytest
from tests.unit.kube_rollouts import RolloutsApi

from phoenix_orch.health_validator.observation import VerdictKind
from phoenix_orch.kernel.clock import ManualClock
from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.rollout.store import patience
from phoenix_orch.rollout.store.kubernetes import KubernetesStore
from phoenix_orch.rollout.store.valkey import ValkeyStore
from phoenix_orch.runtime import detached
from phoenix_orch.runtime.valkey_server import ValkeyServer
from phoenix_orch.testing.store_samples import SHOP, VERDICT


async def test_verdicts_are_known_at_once_while_the_server_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten passes that each waited for the time-outs of three reads would take a minute and a half."""
    monkeypatch.setattr(patience, "PAUSE", 60.0)
    keeper = ValkeyServer(tmp_path)
    info = await keeper.ensure()
    assert info.process is not None
    log = ValkeyStore(info.url)
    store = KubernetesStore(
        cast("KubeClient", RolloutsApi()), log, namespace="shops", clock=ManualClock(VERDICT.at)
    )
    try:
        await store.put(SHOP)
        await store.put_verdict("shop", VERDICT.model_copy(update={"kind": VerdictKind.ADVANCE}), "{}")
        detached.send(info.process, signal.SIGSTOP)
        try:
            began = time.monotonic()
            await store.show_verdict("shop", VERDICT.model_copy(update={"kind": VerdictKind.ROLLBACK}))
            for _ in range(10):
                judged = await store.judged("shop")
                assert judged is not None
                assert judged.kind is VerdictKind.ROLLBACK
                with pytest.raises(Retryable):
                    await store.cause("shop", VERDICT.revision)
                with pytest.raises(Retryable):
                    await store.revisions("shop")
            assert time.monotonic() - began < 20
        finally:
            detached.send(info.process, signal.SIGCONT)
        monkeypatch.setattr(patience, "PAUSE", 0.0)
        another = KubernetesStore(
            cast("KubeClient", RolloutsApi()), log, namespace="shops", clock=ManualClock(VERDICT.at)
        )
        async with asyncio.timeout(30):
            while True:
                try:
                    kept = await another.verdict("shop")
                    break
                except Retryable:  # it is only just going on
                    await asyncio.sleep(0.05)
        assert kept is not None
        assert kept[0].kind is VerdictKind.ADVANCE
    finally:
        await log.close()
        await keeper.stop()
