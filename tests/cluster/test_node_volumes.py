"""An application's volume on a node, from its first entry to the loss of its namespace and back.

The pods, kubelet, the provisioner and the snapshot controller are real; what is restored is what was written.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from tests.cluster.awaiting import eventually
from tests.cluster.kubectl import Refused
from tests.cluster.node.cluster import NodeCluster
from tests.cluster.node.storage import DRIVER, Storage
from tests.cluster.volume_stage import (
    CHECK,
    CLAIM,
    NAME,
    forwarded,
    has_entries,
    manifests,
    told,
)

from phoenix_orch.kernel.errors import BadState, Terminal
from phoenix_orch.kernel.units import parse_duration
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.recovery.hook_spec import Hook, Quiesce
from phoenix_orch.recovery.layout import Scope
from phoenix_orch.recovery.restore import exchange_plan, volume_manifest
from phoenix_orch.recovery.restore.volume_swap import KEPT
from phoenix_orch.recovery.sources.snapshot_plan import read_back
from phoenix_orch.recovery.sources.snapshots import SnapshotKeeper, SnapshotSource

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="a cluster with a node needs root"),
]
PHOENIX = Path(sys.executable).with_name("phoenix")
PATIENCE = "400s"
T = TypeVar("T")


class Ledger:
    """The application in its namespace, and a person at the command line."""

    def __init__(self, cluster: NodeCluster, namespace: str, folder: Path) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self._folder = folder

    def source(self, url: str) -> SnapshotSource:
        return SnapshotSource(
            Scope("test", self.namespace, "volume/ledger"),
            self.namespace,
            CLAIM,
            connect=self.client,
            quiesce=Quiesce(before=(_post(f"{url}/rest"),), after=(_post(f"{url}/wake"),)),
            notes=self._folder / "notes",
            now=lambda: datetime.now(UTC),
            new_id=lambda: secrets.token_hex(4),
            timeout=parse_duration("60s"),
        )

    def client(self) -> KubeClient:
        return KubeClient(load(self.cluster.kubeconfig, namespace=self.namespace))

    def act(self, act: Callable[[SnapshotKeeper], Awaitable[T]]) -> T:
        async def acting() -> T:
            async with self.client() as client:
                return await act(SnapshotKeeper(client, timeout=parse_duration("60s"), look=0.2))

        return asyncio.run(acting())

    def phoenix(self, *words: str, status: int = 0) -> str:
        """What it prints; an error, where another status is expected."""
        done = subprocess.run(
            [PHOENIX, *words, "-n", self.namespace],
            env={**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig)},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stderr if status else done.stdout

    def there(self, *words: str, timeout: float = 420) -> str:
        return self.cluster.kubectl("-n", self.namespace, *words, timeout=timeout)

    def looked(self, job: str, *, whole: bool = True) -> str:
        """What a Job has printed that looked at a volume. `whole`: what it has to have found."""
        condition = "complete" if whole else "failed"
        try:
            self.there("wait", f"--for=condition={condition}", f"job/{job}", f"--timeout={PATIENCE}")
        except Refused as error:
            pods = self.there("describe", "pods,jobs,pvc,volumesnapshot")
            raise AssertionError(f"{error}\n{pods[-6000:]}") from error
        return self.there("logs", f"job/{job}")

    def verified(self, claim: str, name: str, image: str, *, whole: bool = True) -> Any:
        """What `verify-state` of the image says of a claim, for programs."""
        words = ["/usr/local/bin/verify-state", "--data-dir", "/state/phoenix", "--output", "json"]
        self.cluster.apply(volume_manifest.job(claim, self.namespace, name, image, words))
        return json.loads(self.looked(f"verify-{name}", whole=whole))

    def checked(self, claim: str, name: str, image: str) -> Any:
        """What the application's own check says of a claim."""
        words = ["python3", "-c", CHECK]
        self.cluster.apply(volume_manifest.job(claim, self.namespace, name, image, words))
        return json.loads(self.looked(f"verify-{name}"))


def _post(url: str) -> Hook:
    return Hook.model_validate({"url": url})


@pytest.fixture
def ledger(
    node_cluster: NodeCluster, node_namespace: str, node_storage: Storage, node_phoenix: str, tmp_path: Path
) -> Ledger:
    """At work."""
    node_cluster.apply(*manifests(node_namespace, node_phoenix))
    made = Ledger(node_cluster, node_namespace, tmp_path)
    made.there("rollout", "status", f"deployment/{NAME}", f"--timeout={PATIENCE}")
    return made


def taken(ledger: Ledger) -> tuple[bytes, dict[str, Any]]:
    """The description that a backup keeps, and its facts in the manifest."""
    with forwarded(ledger.cluster, ledger.namespace) as url:
        before = told(url)
        with ledger.source(url).capture() as capture:
            stored = capture.read()
            assert capture.read() == b""
            facts = capture.facts()
        after = told(url)
        has_entries(url, after["entries"])  # it writes on
    assert (after["rests"], after["wakes"]) == (before["rests"] + 1, before["wakes"] + 1)
    assert [one["fault"] for one in facts.hooks] == ["", ""]
    return stored, facts.content


def test_a_state_is_taken_spoiled_restored_lost_and_found(
    ledger: Ledger, node_storage: Storage, node_phoenix: str, tmp_path: Path
) -> None:
    cluster, namespace = ledger.cluster, ledger.namespace
    with forwarded(cluster, namespace) as url:
        has_entries(url, 20)
    description, content = taken(ledger)
    one = read_back(description)
    assert (one.driver, one.claim) == (DRIVER, CLAIM)
    assert content["snapshotHandle"] in node_storage.snapshots()
    with forwarded(cluster, namespace) as url:
        httpx.post(f"{url}/spoil", trust_env=False, timeout=30)
        assert told(url)["whole"] is False

    # the guide's file, from what the backup keeps
    kept, file = tmp_path / "snapshot.json", tmp_path / "volume-restore.yaml"
    kept.write_bytes(description)
    plan = (
        "restore",
        "plan",
        "volume",
        "--snapshot",
        str(kept),
        "--write",
        str(file),
        "--image",
        node_phoenix,
    )
    ledger.phoenix(*plan, "--id", "b1", "--folder", "phoenix")
    ledger.there("apply", "-f", str(file))
    assert "the state is whole" in ledger.looked("verify-b1")
    report = ledger.verified("data-restore-b1", "again", node_phoenix)
    assert report["whole"] is True
    assert {part["name"]: part["state"] for part in report["parts"]}["audit"] == "whole"
    found = ledger.checked("data-restore-b1", "own", node_phoenix)
    assert found["count"] >= 20

    # in the place of the old one, which is kept
    swap = ("restore", "run", "claim", NAME, "--old", CLAIM, "--new", "data-restore-b1")
    ledger.phoenix(*swap, "--data-dir", str(tmp_path / "d"))
    ledger.there("rollout", "status", f"deployment/{NAME}", f"--timeout={PATIENCE}")
    with forwarded(cluster, namespace) as url:
        assert told(url)["whole"] is True
        has_entries(url, found["count"])
    assert KEPT in cluster.get("pvc", CLAIM, "-n", namespace)["metadata"]["annotations"]

    # the namespace is lost, and what the storage has is not
    cluster.kubectl("delete", "namespace", namespace, "--timeout=400s", timeout=410)
    assert one.handle in node_storage.snapshots()
    another = Ledger(cluster, f"{namespace}-again", tmp_path)
    cluster.kubectl("create", "namespace", another.namespace)
    try:
        words = ("--snapshot", str(kept), "--id", "b2", "--image", node_phoenix, "--into", another.namespace)
        planned = json.loads(another.phoenix("restore", "plan", "volume", *words, "-o", "json"))
        confirmed = (*words, "--confirm", planned["hash"], "--data-dir", str(tmp_path / "d"))
        another.phoenix("restore", "run", "volume", *confirmed)
        assert another.checked(CLAIM, "own", node_phoenix) == found
        application = manifests(another.namespace, node_phoenix)
        cluster.apply(*(one for one in application if one["kind"] != "PersistentVolumeClaim"))
        another.there("rollout", "status", f"deployment/{NAME}", f"--timeout={PATIENCE}")
        with forwarded(cluster, another.namespace) as url:
            assert told(url)["whole"] is True
            has_entries(url, found["count"])
    finally:
        cluster.kubectl("delete", "namespace", another.namespace, "--timeout=400s", timeout=410)

    # and goes with the backup
    another.act(lambda keeper: keeper.forget(one))
    eventually("the storage has let it go", lambda: one.handle not in node_storage.snapshots(), 240)


def test_a_claim_in_use_gets_the_restored_volume_under_its_name_and_the_old_one_back(
    ledger: Ledger, node_phoenix: str, tmp_path: Path
) -> None:
    cluster, namespace = ledger.cluster, ledger.namespace
    with forwarded(cluster, namespace) as url:
        has_entries(url, 20)
    description, _ = taken(ledger)
    kept = tmp_path / "snapshot.json"
    kept.write_bytes(description)
    with forwarded(cluster, namespace) as url:
        httpx.post(f"{url}/spoil", trust_env=False, timeout=30)

    # a pod that has ended keeps the claim from going, as long as it is there
    look = ["python3", "-c", "pass"]
    cluster.apply(volume_manifest.job(CLAIM, namespace, "nightly", node_phoenix, look))
    ledger.looked("verify-nightly")
    words = ("--snapshot", str(kept), "--id", "b4", "--image", node_phoenix)
    refused = ledger.phoenix("restore", "plan", "volume", *words, status=BadState.exit_code)
    assert f"pods that have ended keep the claim {CLAIM}: verify-nightly-" in refused
    ledger.there("delete", "job", "verify-nightly")

    def run(*more: str) -> str:
        """What becomes of the volume that the claim has now: it is kept."""
        before = cluster.get("pvc", CLAIM, "-n", namespace)["spec"]["volumeName"]
        ledger.phoenix("restore", "run", "volume", *more, "--data-dir", str(tmp_path / "d"))
        ledger.there("rollout", "status", f"deployment/{NAME}", f"--timeout={PATIENCE}")
        old = cluster.get("pv", before)
        assert old["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
        assert exchange_plan.KEPT in old["metadata"]["annotations"]
        assert cluster.get("pvc", CLAIM, "-n", namespace)["spec"]["volumeName"] != before
        claims = cluster.get("pvc", "-n", namespace)["items"]
        assert [one["metadata"]["name"] for one in claims] == [CLAIM]
        return str(before)

    planned = json.loads(ledger.phoenix("restore", "plan", "volume", *words, "-o", "json"))
    spoiled = run(*words, "--confirm", planned["hash"])
    with forwarded(cluster, namespace) as url:
        assert told(url)["whole"] is True
        has_entries(url, told(url)["entries"])
    run("--claim", CLAIM, "--volume", spoiled)
    with forwarded(cluster, namespace) as url:
        assert told(url)["whole"] is False


def test_a_state_that_is_not_whole_is_told(ledger: Ledger, node_phoenix: str, tmp_path: Path) -> None:
    tear = "open('/state/phoenix/audit/000000000001.jsonl', 'w').write('{}\\n')"
    ledger.there("exec", f"deployment/{NAME}", "--", "python3", "-c", tear)
    description, _ = taken(ledger)
    kept, file = tmp_path / "snapshot.json", tmp_path / "volume-restore.yaml"
    kept.write_bytes(description)
    words = ("--snapshot", str(kept), "--write", str(file), "--image", node_phoenix, "--folder", "phoenix")
    ledger.phoenix("restore", "plan", "volume", *words, "--id", "b3")
    ledger.there("apply", "-f", str(file))
    said = ledger.looked("verify-b3", whole=False)
    assert re.search(r"^audit +broken", said, re.MULTILINE)
    assert "the state is not known to be whole" in said
    (pod,) = ledger.cluster.get("pods", "-n", ledger.namespace, "-l", "job-name=verify-b3")["items"]
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 1


def test_a_storage_that_takes_none_fails_the_backup_and_wakes_the_application(
    ledger: Ledger, node_storage: Storage
) -> None:
    before = node_storage.snapshots()
    node_storage.refuse_snapshots("the disk is full")
    try:
        with forwarded(ledger.cluster, ledger.namespace) as url:
            source = ledger.source(url)
            with pytest.raises(Terminal, match="the disk is full"), source.capture():
                pass
            after = told(url)
            assert (after["rests"], after["wakes"]) == (1, 1)
    finally:
        node_storage.refuse_snapshots("")

    def left() -> bool:
        found = ledger.cluster.get("volumesnapshots", "-n", ledger.namespace)["items"]
        claim = ledger.cluster.get("pvc", CLAIM, "-n", ledger.namespace)
        return bool(found) or any("snapshot" in one for one in claim["metadata"]["finalizers"])

    eventually("nothing of it is left", lambda: not left(), 240)
    assert node_storage.snapshots() == before
