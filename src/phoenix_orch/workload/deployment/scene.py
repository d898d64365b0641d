"""Everything that is known of one Deployment and its canary at one moment, and what follows from it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from phoenix_orch.workload.deployment.health import Health, Trouble, deployment_troubles, health
from phoenix_orch.workload.deployment.history import template_of
from phoenix_orch.workload.deployment.manifest import (
    Manifest,
    at,
    controller,
    name_of,
    owned_by,
    uid_of,
)
from phoenix_orch.workload.deployment.refusal import Refusal
from phoenix_orch.workload.deployment.revision import (
    Contents,
    Reference,
    Revision,
    references,
    revision,
    running,
)
from phoenix_orch.workload.deployment.selectors import (
    Identity,
    Surroundings,
    as_stable,
    identity,
)
from phoenix_orch.workload.deployment.size import autoscaler_of, kept_size
from phoenix_orch.workload.deployment.target import replicas_of
from phoenix_orch.workload.workload import WorkloadState


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """A pod template as stable would run it, and what it runs now."""

    manifest: Manifest
    runs: Revision

    @property
    def revision(self) -> str:
        return self.runs.id


@dataclass(frozen=True, slots=True)
class Scene:
    """Objects of one namespace at one moment."""

    stable: Manifest
    canary: Manifest | None = None
    replica_sets: Sequence[Manifest] = ()
    pods: Sequence[Manifest] = ()
    around: Surroundings = field(default_factory=Surroundings)
    autoscalers: Sequence[Manifest] = ()
    contents: Contents = field(default_factory=dict)

    @property
    def apart(self) -> Identity:
        return identity(self.stable, self.canary or self.stable, self.around)

    @property
    def autoscaler(self) -> Manifest | None:
        return autoscaler_of(self.stable, self.autoscalers)

    def stable_template(self) -> PodTemplate:
        """What stable would run if its pods were started now."""
        template = self.stable["spec"]["template"]
        return PodTemplate(template, revision(template, self.contents))

    def canary_template(self) -> PodTemplate | None:
        """What the canary would run, as stable would run it."""
        if self.canary is None:
            return None
        template = as_stable(self.canary["spec"]["template"], self.apart)
        return PodTemplate(template, revision(template, self.contents))

    def stable_revision(self) -> str:
        """What stable runs: a changed ConfigMap is not in pods that were started before."""
        return running(self.stable["spec"]["template"], self.contents, self.stable)

    def revisions(self) -> dict[str, str]:
        """The revision of each ReplicaSet of both, by name."""
        found = {name_of(one): self._revision_of(one) for one in self.replica_sets}
        return {name: revision for name, revision in found.items() if revision is not None}

    def _revision_of(self, replica_set: Manifest) -> str | None:
        """None: it belongs to neither."""
        template = template_of(replica_set)
        if self.canary is not None and owned_by(replica_set, self.canary):
            template = as_stable(template, self.apart)
        elif not owned_by(replica_set, self.stable):
            return None
        return running(template, self.contents, replica_set)

    def wanted(self) -> dict[str, int]:
        """Pods wanted of each revision."""
        found: dict[str, int] = {}
        counted = [(self.stable_revision(), replicas_of(self.stable))]
        template = self.canary_template()
        if self.canary is not None and template is not None:
            counted.append((template.revision, replicas_of(self.canary)))
        for name, count in counted:
            if count:
                found[name] = found.get(name, 0) + count
        return found

    def kept_size(self) -> int:
        """Pods of stable when the present release began; 0: not kept."""
        template = self.canary_template()
        return kept_size(self.canary, template.revision) if self.canary and template else 0

    def own_pods(self) -> dict[str, str]:
        """The revision of each pod of both, by uid; by the ReplicaSet that made it."""
        by_set = {uid_of(one): one for one in self.replica_sets}
        owners = {uid_of(pod): str((controller(pod) or {}).get("uid")) for pod in self.pods}
        # Of those with pods only: a Deployment keeps ten that have none.
        revisions = {uid: self._revision_of(by_set[uid]) for uid in {*owners.values()} & by_set.keys()}
        return {pod: found for pod, uid in owners.items() if (found := revisions.get(uid)) is not None}

    def health(self, events: Sequence[Manifest] = ()) -> Health:
        return health(self.pods, events, self.own_pods())

    def state(self, service: str, now: datetime, events: Sequence[Manifest] = ()) -> WorkloadState:
        """The picture that decisions are made from."""
        found = self.health(events)
        order = {name_of(pod): str(at(pod, "metadata", "creationTimestamp")) for pod in self.pods}
        instances = sorted(found.instances, key=lambda one: (order[one.name], one.name))
        return WorkloadState(
            service=service, at=now, wanted=self.wanted(), instances=tuple(instances), exits=found.exits
        )

    def troubles(self, events: Sequence[Manifest] = ()) -> tuple[tuple[Trouble, ...], tuple[Refusal, ...]]:
        """(what the cluster keeps from happening, why pods of a template are refused for good)."""
        troubles, refused = list(self.health(events).troubles), []
        for one in (self.stable, self.canary):
            if one is not None:
                theirs, why = deployment_troubles(one)
                troubles += theirs
                if why:
                    refused.append(Refusal("PodsRefused", why, f"change the pod template of {name_of(one)}"))
        return tuple(troubles), tuple(refused)


def needed(manifests: Sequence[Manifest]) -> frozenset[Reference]:
    """What the pod templates of these Deployments and ReplicaSets read."""
    found = (references(one["spec"]["template"]) for one in manifests)
    return frozenset[Reference]().union(*found)


def shown(scene: Scene) -> Mapping[str, PodTemplate]:
    """The templates of what is wanted or has pods, by revision.

    Of revisions that only old pods run there is none: they cannot be asked for any more.
    """
    templates = [scene.stable_template()]
    if (canary := scene.canary_template()) is not None:
        templates.append(canary)
    alive = {*scene.wanted(), *scene.own_pods().values()}
    return {one.revision: one for one in templates if one.revision in alive}
