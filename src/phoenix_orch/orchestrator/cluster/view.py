"""What runs in the cluster, for everybody who only looks. No claim is made and nothing is written."""

from __future__ import annotations

from phoenix_orch.kernel.clock import Clock
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.resources import Object
from phoenix_orch.orchestrator.cluster.declared import Declared, Rollouts
from phoenix_orch.workload.deployment.manifest import name_of, owned_by
from phoenix_orch.workload.deployment.scene import Scene
from phoenix_orch.workload.kubernetes_objects import Watches
from phoenix_orch.workload.pod_events import PodEvents
from phoenix_orch.workload.workload import WorkloadState


class ClusterView:
    """A WorkloadView of the Deployments that Rollouts name. A service is called as its Deployment."""

    def __init__(self, client: KubeClient | None, watches: Watches, rollouts: Rollouts, clock: Clock) -> None:
        """`client`: asked for events about pods in trouble; None: for who asks only which pods are ready."""
        self._events = PodEvents(client) if client is not None else None
        self._watches = watches
        self._rollouts = rollouts
        self._clock = clock

    def scene(self, one: Declared) -> Scene:
        """Everything of one Rollout's Deployments. Raises NotFound where stable is missing."""
        return self._watches.scene(one.namespace, one.spec.workload.name, one.spec.canary_name)

    def service(self, one: Declared, name: str) -> Object | None:
        """A Service beside the Deployment of a Rollout."""
        return self._watches.around.service(one.namespace, name)

    def of_the_ready(self) -> ClusterView:
        """The same without events: nothing of it asks the API server."""
        return ClusterView(None, self._watches, self._rollouts, self._clock)

    async def state(self, service: str) -> WorkloadState:
        one = self._rollouts.of_service(service)
        scene = self.scene(one)
        events = await self._events.about(one.namespace, scene.pods) if self._events is not None else ()
        return scene.state(service, self._clock.now(), events)


def canary_pods(scene: Scene) -> frozenset[str]:
    """Names of the pods that the canary's Deployment made."""
    if scene.canary is None:
        return frozenset()
    sets = [one for one in scene.replica_sets if owned_by(one, scene.canary)]
    return frozenset(name_of(pod) for pod in scene.pods if any(owned_by(pod, one) for one in sets))
