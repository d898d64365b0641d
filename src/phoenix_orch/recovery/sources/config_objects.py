"""What of a Kubernetes object is configuration, and which objects are none. Pure.

The API server adds to every object what is true of this one alone: its uid, its version, who wrote which
field when. Left in, every backup would differ from the one before, and none could be applied elsewhere.
kubectl's record of what it applied last repeats a Secret's values in clear, and goes for that reason.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kube.resources import (
    AUTOSCALERS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    HTTP_ROUTES,
    INGRESSES,
    ROLLOUTS,
    SECRETS,
    SERVICES,
    STATEFUL_SETS,
    Object,
    Resource,
)

SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
DAEMON_SETS = Resource("apps", "v1", "daemonsets", "DaemonSet")
CRON_JOBS = Resource("batch", "v1", "cronjobs", "CronJob")
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")

KINDS = (
    SERVICE_ACCOUNTS,
    SECRETS,
    CONFIG_MAPS,
    SERVICES,
    DEPLOYMENTS,
    STATEFUL_SETS,
    DAEMON_SETS,
    CRON_JOBS,
    AUTOSCALERS,
    DISRUPTION_BUDGETS,
    NETWORK_POLICIES,
    INGRESSES,
    HTTP_ROUTES,
    ROLLOUTS,
)
"""What is backed up, in the order in which it is put back: what others refer to comes first."""

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
LEADER = "control-plane.alpha.kubernetes.io/leader"
PENDING = "phoenix-orch.io/restore-pending"
"""On a workload: a restore changes what it reads, and has not rolled it yet."""
SECRET_PARTS = ("data", "stringData")
"""Fields of a Secret whose values nobody may read."""

_OF_THE_SERVER = (
    "managedFields",
    "resourceVersion",
    "uid",
    "creationTimestamp",
    "generation",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
)
_ANNOTATIONS = frozenset(
    {
        LAST_APPLIED,
        LEADER,
        PENDING,
        "deployment.kubernetes.io/revision",
        "deprecated.daemonset.template.generation",
        "kubernetes.io/service-account.uid",
        "autoscaling.alpha.kubernetes.io/conditions",
        "autoscaling.alpha.kubernetes.io/current-metrics",
    }
)
_MADE_BY_THE_CLUSTER = frozenset(
    {
        "kube-root-ca.crt",
        "openshift-service-ca.crt",
        "istio-ca-root-cert",
        "extension-apiserver-authentication",
    }
)
_TOKENS = {
    "kubernetes.io/service-account-token": "a service account's token, which the cluster makes",
    "bootstrap.kubernetes.io/token": "a token of a day for nodes that join",
}
_HELM = "helm.sh/release.v1"
_SEGMENT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:-]{0,251}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which objects are backed up besides what is always left out."""

    helm_releases: bool = False
    """Helm's own records of releases: large, and of use only to Helm."""
    exclude: frozenset[tuple[str, str]] = frozenset()
    """Kinds and names, as `("Secret", "sandbox")`."""


EVERYTHING = Choice()


def left_out(found: Object, kind: str, choice: Choice = EVERYTHING) -> str:
    """Why this object is not backed up; empty where it is."""
    metadata = found["metadata"]
    name, annotations = metadata["name"], metadata.get("annotations") or {}
    if (kind, name) in choice.exclude:
        return "left out by the configuration"
    if metadata.get("deletionTimestamp"):
        return "being deleted"
    if LEADER in annotations:
        return "says who leads, and only now"
    if kind == "ConfigMap" and name in _MADE_BY_THE_CLUSTER:
        return "made by the cluster in every namespace"
    if kind == "ServiceAccount" and name == "default" and not found.get("imagePullSecrets"):
        return "made by the cluster in every namespace"
    if kind == "Service" and name == "kubernetes" and metadata.get("namespace") == "default":
        return "the cluster's own"
    if kind == "Secret":
        of_type = found.get("type", "")
        if of_type == _HELM and not choice.helm_releases:
            return "a record of Helm"
        return _TOKENS.get(of_type, "")
    return ""


def normalised(found: Object, resource: Resource) -> Object:
    """A new object with what a person, or a program for one, wanted; without what the API server added.

    Applying it twice changes nothing. The owner is not in it: its uid is true for one life of it only.
    """
    kept = {name: copy.deepcopy(part) for name, part in found.items() if name != "status"}
    kept["apiVersion"], kept["kind"] = resource.api_version, resource.kind
    metadata = {name: part for name, part in kept["metadata"].items() if name not in _OF_THE_SERVER}
    _without(metadata, "annotations", _ANNOTATIONS)
    if not metadata.get("finalizers"):
        metadata.pop("finalizers", None)
    kept["metadata"] = metadata
    own = _OWN.get(resource.kind)
    if own is not None:
        own(kept)
    return _pruned(kept)


def owners(found: Object) -> list[str]:
    """Who made the object, as `Certificate shop-tls (cert-manager.io/v1)`: they may make it again."""
    return sorted(
        f"{owner.get('kind')} {owner.get('name')} ({owner.get('apiVersion')})"
        for owner in found["metadata"].get("ownerReferences") or ()
    )


def path_of(found: Object, resource: Resource, namespace: str = "") -> str:
    """Where the object is in the tree: `shop/ConfigMap/web.yaml`.

    Of a kind that is not among `KINDS` the group is in it, too: Knative has a Service of its own. Raises
    Invalid for names that would lead somewhere else.
    """
    metadata = found["metadata"]
    place = namespace or metadata.get("namespace") or "_cluster"
    kind = resource.kind if resource in KINDS or not resource.group else f"{resource.kind}.{resource.group}"
    for segment in (place.removeprefix("_"), kind, metadata["name"]):
        if not _SEGMENT.fullmatch(segment):
            raise Invalid(f"{segment!r} is no name of a file of the backup")
    return f"{place}/{kind}/{metadata['name']}.yaml"


def _without(parent: dict[str, Any], field: str, names: Iterable[str]) -> None:
    found = parent.get(field)
    if not found:
        parent.pop(field, None)
        return
    left = {name: value for name, value in found.items() if name not in names}
    if left:
        parent[field] = left
    else:
        del parent[field]


def _pruned(kept: Object) -> Object:
    """Without what the API server writes out as nothing: `creationTimestamp: null` of every template."""
    template = _template_of(kept)
    if template is not None:
        metadata = template.setdefault("metadata", {})
        if metadata.get("creationTimestamp", 0) is None:
            del metadata["creationTimestamp"]
        # a restart is an act and no configuration: put back, an old one would restart everything
        _without(metadata, "annotations", (RESTARTED_AT,))
    return kept


def template_path(kind: str) -> tuple[str, ...]:
    """Where the pod template is in an object of this kind; empty where it has none."""
    if kind in ("Deployment", "StatefulSet", "DaemonSet"):
        return ("spec", "template")
    if kind == "CronJob":
        return ("spec", "jobTemplate", "spec", "template")
    return ()


def _template_of(kept: Mapping[str, Any]) -> dict[str, Any] | None:
    path = template_path(kept["kind"])
    at: Any = kept
    for part in path:
        at = at.get(part) if isinstance(at, dict) else None
    return at if path and isinstance(at, dict) else None


def _service(kept: Object) -> None:
    """Addresses are given by one cluster. A Service without any stays one."""
    spec = kept.get("spec") or {}
    if spec.get("clusterIP") != "None":
        spec.pop("clusterIP", None)
        spec.pop("clusterIPs", None)
    spec.pop("healthCheckNodePort", None)


def _service_account(kept: Object) -> None:
    """Its tokens are the cluster's."""
    kept.pop("secrets", None)


def _secret(kept: Object) -> None:
    for part in SECRET_PARTS:
        if kept.get(part) is None:
            kept.pop(part, None)


def _scale(kept: Object) -> None:
    if kept["kind"] == "StatefulSet":
        for claim in (kept.get("spec") or {}).get("volumeClaimTemplates") or ():
            claim.pop("status", None)
            if claim.get("metadata", {}).get("creationTimestamp", 0) is None:
                del claim["metadata"]["creationTimestamp"]


_OWN = {
    "Service": _service,
    "ServiceAccount": _service_account,
    "Secret": _secret,
    "StatefulSet": _scale,
}
