"""PersistentVolumeClaims of a cluster whose snapshots are backups: which there are, what is done to them."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from phoenix_orch.kernel.errors import BadState, NotFound
from phoenix_orch.kernel.ids import sortable_id
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import PODS, Object
from phoenix_orch.recovery import mover_job
from phoenix_orch.recovery.backup_source import BackupSource
from phoenix_orch.recovery.catalog import View
from phoenix_orch.recovery.layout import Scope
from phoenix_orch.recovery.outside import Outside, outside_of
from phoenix_orch.recovery.prune import ORPHANS
from phoenix_orch.recovery.restore.scratch_claim import Rehearsed, Scratch, ScratchClaims
from phoenix_orch.recovery.snapshot_verify import SnapshotStructure
from phoenix_orch.recovery.sources import copied
from phoenix_orch.recovery.sources.claim_spec import ClaimSpec
from phoenix_orch.recovery.sources.copied import CopyOrder
from phoenix_orch.recovery.sources.files_configured import component_of
from phoenix_orch.recovery.sources.snapshot_plan import (
    CLAIMS,
    SCOPE,
    SNAPSHOTS,
    Taken,
    of_facts,
    scope_label,
    short,
)
from phoenix_orch.recovery.sources.snapshots import SnapshotKeeper, SnapshotSource
from phoenix_orch.recovery.verifying import Structural

T = TypeVar("T")
Connect = Callable[[], KubeClient]
"""A client of the event loop it is called in."""
LONGEST = 63
"""Characters of the instance of a component."""
COPYING = timedelta(hours=5)
"""That a Job may take for a copy; less than the task that waits for it."""


class ClusterVolumes:
    """See `Volumes`. Everything that asks the cluster runs an event loop of its own."""

    def __init__(self, connect: Connect, scope: Scope, claims: Mapping[str, ClaimSpec]) -> None:
        """`scope`: the cluster's and the namespace's; its component does not matter."""
        self._connect = connect
        self._scope = scope
        self._claims = claims

    @property
    def components(self) -> Sequence[str]:
        return [component_of(name) for name in self._claims]

    def spec(self, component: str) -> ClaimSpec | None:
        """Of a component or of one of its members."""
        return self._claims.get(_name(component))

    def namespace(self, spec: ClaimSpec) -> str:
        return spec.namespace or self._scope.namespace

    @property
    def copies(self) -> Sequence[str]:
        return [f"{copied.KIND}/{name}" for name, spec in self._claims.items() if spec.off_cluster]

    def members(self, component: str) -> Sequence[str]:
        kind = component.partition("/")[0]
        return sorted(f"{kind}/{one.partition('/')[2]}" for one in self._members(component))

    def source(self, component: str, notes: Path) -> BackupSource:
        spec, claim = self._claims[_name(component)], self._members(component).get(component)
        if claim is None:
            raise NotFound(
                f"{component} is no claim that is there now",
                remedy=f"kubectl get pvc -n {self.namespace(spec)} -l {spec.selector}",
            )
        return SnapshotSource(
            Scope(self._scope.cluster, self._scope.namespace, component),
            self.namespace(spec),
            claim,
            connect=self._connect,
            quiesce=spec.quiesce,
            notes=notes,
            now=_now,
            new_id=lambda: sortable_id(_now()),
            class_name=spec.snapshot_class or "",
            timeout=spec.timeout,
        )

    def structural(self) -> Structural:
        return SnapshotStructure(lambda one: self._kept(lambda keeper: keeper.holds(one)))

    @property
    def outside(self) -> Outside:
        return self

    def rehearse(self, component: str, one: Taken, stop: Callable[[], bool]) -> str:
        """Of a component that is configured no more, with what is left out of a configuration."""
        spec = self.spec(component) or ClaimSpec(claim=one.claim)
        scope = Scope(self._scope.cluster, self._scope.namespace, component)
        how = Rehearsed(spec.verify, spec.checks, scope_label(scope.path), spec.drill_class or "")
        suffix = sortable_id(_now())
        return self._ran(lambda client: ScratchClaims(client, stop=stop).rehearse(one, suffix, how))

    def copy(self, order: CopyOrder, one: Taken, stop: Callable[[], bool]) -> None:
        """In the namespace of Phoenix: the keys of its backups stay there."""
        spec = self.spec(order.component) or ClaimSpec(claim=one.claim)
        scope = Scope(self._scope.cluster, self._scope.namespace, order.component)
        labels = {mover_job.COPYING: scope_label(scope.path)}

        async def copying(client: KubeClient) -> None:
            pod = await self._own_pod(client)
            told = order.model_copy(update={"file": mover_job.file_of(pod), "checks": spec.checks})
            text = told.model_dump_json(by_alias=True)
            scratch = Scratch(
                one,
                scope.namespace,
                sortable_id(_now()),
                "copy",
                labels,
                lambda claim: mover_job.job(
                    pod, claim, labels=labels, order=text, user=spec.verify.user, timeout=COPYING
                ),
                spec.drill_class or "",
            )
            await ScratchClaims(client, stop=stop).through(scratch)

        self._ran(copying)

    async def _own_pod(self, client: KubeClient) -> Object:
        """That this process runs in. Raises BadState elsewhere."""
        name, namespace = platform.node(), self._scope.namespace
        for pod in (await client.list(PODS, namespace)).items:
            if pod["metadata"]["name"] == name:
                return pod
        raise BadState(
            f"copies away from the cluster are made by a pod of the orchestrator, and {name} is none"
            f" in {namespace}",
            remedy="`phoenix task run backup.run` lets it do that, or the schedule",
        )

    # -- where the data is -----------------------------------------------------------------------------

    def let_go(self, facts: Mapping[str, Any]) -> None:
        one = of_facts(facts)
        self._kept(lambda keeper: keeper.forget(one))

    def left_over(self, view: View) -> Sequence[str]:
        """Snapshots that were taken for a backup that was never published."""
        known = {str(stone.outside.get("snapshot")) for stone in view.tombstones}
        spaces = set[str]()
        for backup in view.backups:
            facts = outside_of(backup.manifest)
            known.add(str(facts.get("snapshot")))
            spaces |= {facts["namespace"]} if facts else set()
        spec = self.spec(view.scope.component)
        spaces |= {self.namespace(spec)} if spec is not None else set()
        if not spaces:
            return ()
        return self._ran(lambda client: self._unknown(client, view.scope, spaces, known))

    def sweep(self, left: str) -> None:
        _, namespace, name = left.split("/")
        self._kept(lambda keeper: keeper.discard(namespace, name))

    async def _unknown(
        self, client: KubeClient, scope: Scope, spaces: set[str], known: set[str]
    ) -> Sequence[str]:
        label = f"{SCOPE}={scope_label(scope.path)}"
        found = [
            one
            for space in sorted(spaces)
            for one in (await client.list(SNAPSHOTS, space, labels=label)).items
        ]
        return [_word(one) for one in found if one["metadata"]["name"] not in known and _age(one) > ORPHANS]

    # -- parts -----------------------------------------------------------------------------------------

    def _members(self, component: str) -> dict[str, str]:
        """Claims by their components. Raises NotFound."""
        name = _name(component)
        spec = self._claims.get(name)
        if spec is None:
            raise NotFound(
                f"{component!r} is not backed up here", remedy=f"there is {', '.join(self.components)}"
            )
        if spec.claim is not None:
            return {component_of(name): spec.claim}
        found = self._ran(
            lambda client: client.list(CLAIMS, self.namespace(spec), labels=spec.selector)
        ).items
        if not found:
            raise NotFound(
                f"no claim in {self.namespace(spec)} has the labels {spec.selector} of backup.claims.{name}",
                remedy="kubectl get pvc --show-labels tells which they have",
            )
        claims = [str(one["metadata"]["name"]) for one in found]
        return {component_of(short(f"{name}.{claim}", LONGEST)): claim for claim in claims}

    def _kept(self, act: Callable[[SnapshotKeeper], Awaitable[T]]) -> T:
        return self._ran(lambda client: act(SnapshotKeeper(client)))

    def _ran(self, act: Callable[[KubeClient], Awaitable[T]]) -> T:
        async def acting() -> T:
            async with self._connect() as client:
                return await act(client)

        return asyncio.run(acting())


def _name(component: str) -> str:
    """`shop` of `volume/shop` and of `volume/shop.data-0`: names of the configuration have no dot."""
    return component.partition("/")[2].partition(".")[0]


def _word(snapshot: Object) -> str:
    metadata = snapshot["metadata"]
    return f"volumesnapshot/{metadata['namespace']}/{metadata['name']}"


def _age(found: Object) -> timedelta:
    return _now() - datetime.fromisoformat(found["metadata"]["creationTimestamp"])


def _now() -> datetime:
    return datetime.now(UTC)
