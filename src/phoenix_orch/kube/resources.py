"""Which kinds of objects there are, and where the API server keeps them. Pure.

Objects are plain dicts, as JSON has them: one shape for built-in kinds, custom resources and kinds that
came after this code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

from phoenix_orch.kernel.errors import Invalid

Object: TypeAlias = dict[str, Any]

ALL_NAMESPACES = ""
"""As the namespace of a list or a watch: every namespace."""


class Key(NamedTuple):
    """What names an object among those of its kind. The namespace is empty for cluster-wide kinds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind, as the API server serves it."""

    group: str
    """Empty for the core group."""
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """The path of an object, or of the collection where `name` is empty.

        Raises Invalid for names that would lead somewhere else.
        """
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", _segment(namespace)]
        elif self.namespaced and name:
            raise Invalid(f"{self.kind} {name} needs a namespace")
        parts.append(self.plural)
        if name:
            parts.append(_segment(name))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


def key_of(found: Object) -> Key:
    metadata = found["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])


def version_of(found: Object) -> str:
    """The resourceVersion: equal exactly when nothing has changed."""
    return str(found["metadata"]["resourceVersion"])


def older(one: str, other: str) -> bool:
    """Whether a version came surely before another of the same kind. They are numbers that rise
    (Kubernetes KEP-5504); of an API server whose versions are none nothing is sure."""
    return one.isdecimal() and other.isdecimal() and int(one) < int(other)


def _segment(text: str) -> str:
    if text in {".", ".."} or "/" in text:
        raise Invalid(f"{text!r} is no name of an object")
    return quote(text, safe="")


PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
SECRETS = Resource("", "v1", "secrets", "Secret")
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
REPLICA_SETS = Resource("apps", "v1", "replicasets", "ReplicaSet")
STATEFUL_SETS = Resource("apps", "v1", "statefulsets", "StatefulSet")
AUTOSCALERS = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
DISRUPTION_BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
INGRESSES = Resource("networking.k8s.io", "v1", "ingresses", "Ingress")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
HTTP_ROUTES = Resource("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
CUSTOM_RESOURCES = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
ROLLOUTS = Resource("phoenix-orch.io", "v1alpha1", "rollouts", "Rollout")
