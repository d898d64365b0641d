"""The canary of a Deployment: made from stable, or the user's own and checked against it.

The pods of both must never be taken for each other: not by a Deployment, whose pods an autoscaler counts,
not by a Service, which would send traffic beyond the weight, and not by a disruption budget, in which
failing canary pods would stand for serving ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from phoenix_orch.kernel.errors import BadState, NotFound
from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.manifest import (
    Manifest,
    at,
    items,
    labels,
    mapping,
    name_of,
)
from phoenix_orch.workload.deployment.refusal import Refusal
from phoenix_orch.workload.deployment.selectors import (
    NOTHING_AROUND,
    Identity,
    Surroundings,
    as_canary,
    as_stable,
    identity,
    keys,
    selects,
    service_selector,
)
from phoenix_orch.workload.deployment.target import owner_reference

SUFFIX = "-canary"
_LONGEST_LABEL = 63
_PREFERRED = ("app", "app.kubernetes.io/name", "app.kubernetes.io/instance", "k8s-app", "name", "component")
_KEPT_SPEC = ("minReadySeconds", "progressDeadlineSeconds", "revisionHistoryLimit", "strategy")
_KEPT_PORT = ("name", "port", "targetPort", "protocol", "appProtocol")
_KEPT_SERVICE = (
    "sessionAffinity",
    "sessionAffinityConfig",
    "publishNotReadyAddresses",
    "internalTrafficPolicy",
    "ipFamilies",
    "ipFamilyPolicy",
    "trafficDistribution",
)
_KEPT_ANNOTATIONS = (
    "traefik.ingress.kubernetes.io/",
    "nginx.ingress.kubernetes.io/",
    "service.kubernetes.io/topology-mode",
)
"""How a router speaks to the pods. Those of load balancers and DNS are left out: they would make a second
one, or take the name away from the first."""


# -- made from stable ------------------------------------------------------------------------------


def derived(
    stable: Manifest,
    *,
    name: str,
    rollout: str,
    template: Manifest | None = None,
    around: Surroundings = NOTHING_AROUND,
) -> dict[str, Any]:
    """A canary Deployment of no pods yet that runs `template`, a pod template as stable would run it.

    Resources, affinity, tolerations, spread, service account, volumes and init containers are kept; only
    labels that tell it apart are changed, as few as it takes, and the selectors that mean its own pods.
    Labels and annotations of the Deployment itself are not copied: by those of Argo CD, Flux and Helm
    their tools would take the canary for a part of the application, and prune it.

    Without one it runs what stable runs. Raises BadState where stable and canary cannot be told apart.
    """
    template = stable["spec"]["template"] if template is None else template
    apart = _told_apart(stable, around)
    made = as_canary(template, apart)
    if as_stable(made, apart) != _plain(template):
        raise BadState(
            f"the affinity or spread of Deployment {name_of(stable)} names pods of a canary already",
            remedy="write the canary's Deployment yourself and name it in the Rollout",
        )
    spec = {key: stable["spec"][key] for key in _KEPT_SPEC if key in stable["spec"]}
    selected = mapping(stable, "spec", "selector", "matchLabels")
    own = {key: value for key, value in selected.items() if key in labels(made)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(stable, name, rollout),
        "spec": {
            **spec,
            "replicas": 0,
            "selector": {"matchLabels": {**own, **apart.canary}},
            "template": made,
        },
    }


def _plain(template: Manifest) -> dict[str, Any]:
    metadata = {**mapping(template, "metadata"), "labels": labels(template)}
    return {**template, "metadata": metadata}


def _metadata(stable: Manifest, name: str, rollout: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": at(stable, "metadata", "namespace"),
        "labels": {marks.MANAGED_BY: marks.MANAGER, marks.ROLLOUT: rollout},
    }


def with_images(template: Manifest, images: Mapping[str, str]) -> dict[str, Any]:
    """The template with other images by container name; init containers too. Raises NotFound."""
    spec = dict(mapping(template, "spec"))
    known: set[str] = set()
    for part in ("initContainers", "containers"):
        if part in spec:
            known |= {str(one.get("name")) for one in items(spec, part)}
            spec[part] = [
                {**one, "image": images[one["name"]]} if one.get("name") in images else one
                for one in items(spec, part)
            ]
    if unknown := sorted(set(images) - known):
        raise NotFound(
            f"there is no container {unknown[0]!r} in the pod template",
            remedy=f"containers: {', '.join(sorted(known))}",
        )
    return {**template, "spec": spec}


def _told_apart(stable: Manifest, around: Surroundings) -> Identity:
    """The fewest labels to change so that nothing which selects stable pods selects canary pods.

    Raises BadState when no label does it.
    """
    own = labels(stable["spec"]["template"])
    canary = {**own, marks.VARIANT: "canary"}
    changed: dict[str, str] = {}
    while confusing := [one for one in _must_not_select(stable, own, around) if selects(one[1], canary)]:
        useful = {key: _settles(key, confusing, canary) for key in own if key not in changed}
        best = max(useful, key=lambda key: (useful[key], -_rank(key)), default=None)
        if best is None or useful[best] == 0:
            raise BadState(
                f"{confusing[0][0]} would select canary pods of Deployment {name_of(stable)} "
                "whatever labels they have",
                remedy="let it select pods by a label of this Deployment, as app for instance",
            )
        changed[best] = canary[best] = own[best][: _LONGEST_LABEL - len(SUFFIX)] + SUFFIX
    return Identity(
        {key: own[key] for key in changed}, {**{key: canary[key] for key in changed}, marks.VARIANT: "canary"}
    )


def _must_not_select(
    stable: Manifest, own: Mapping[str, str], around: Surroundings
) -> Iterator[tuple[str, Manifest]]:
    """Everything that selects stable pods, by its name, and must not select canary pods."""
    yield f"Deployment {name_of(stable)}", mapping(stable, "spec", "selector")
    for what, selector in around.selecting(own):
        if keys(selector):  # a budget of the whole namespace means everybody
            yield what, selector


def _settles(key: str, confusing: Sequence[tuple[str, Manifest]], canary: Mapping[str, str]) -> int:
    other = {**canary, key: canary[key][: _LONGEST_LABEL - len(SUFFIX)] + SUFFIX}
    return sum(not selects(selector, other) for _, selector in confusing)


def _rank(key: str) -> int:
    return _PREFERRED.index(key) if key in _PREFERRED else len(_PREFERRED)


# -- checked against stable ------------------------------------------------------------------------


def confusions(
    stable: Manifest,
    canary: Manifest,
    around: Surroundings = NOTHING_AROUND,
) -> tuple[Refusal, ...]:
    """Everything that would take canary pods for stable pods, or stable pods for canary pods."""
    return tuple(_confusions(stable, canary, around))


def _confusions(stable: Manifest, canary: Manifest, around: Surroundings) -> Iterator[Refusal]:
    own, other = labels(stable["spec"]["template"]), labels(canary["spec"]["template"])
    names = name_of(stable), name_of(canary)
    if names[0] == names[1]:
        yield Refusal("SameDeployment", f"{names[0]} is stable and canary at once", "name another canary")
        return
    if selects(canary["spec"].get("selector"), own):
        yield Refusal(
            "CanarySelectsStable",
            f"the selector of Deployment {names[1]} selects the pods of {names[0]}",
            f"give {names[1]} a label that {names[0]} has not, in its selector and its template",
        )
    for what, selector in _must_not_select(stable, own, around):
        if selects(selector, other):
            kind = what.partition(" ")[0]
            reason = {"Deployment": "StableSelectsCanary", "Service": "ServiceSelectsBoth"}.get(
                kind, "BudgetCountsCanary"
            )
            key = next(iter(mapping(selector, "matchLabels")), "app")
            remedy = f"give the pods of {names[1]} another value of the label {key}"
            if kind == "Service":
                remedy += f", or mark a Service without traffic with {marks.SELECTS_BOTH}: 'true'"
            yield Refusal(reason, f"the selector of {what} selects the pods of {names[1]} too", remedy)
    if at(canary, "metadata", "deletionTimestamp"):
        yield Refusal("CanaryBeingDeleted", f"Deployment {names[1]} is being deleted", "apply it again")
    if at(canary, "spec", "paused"):
        yield Refusal(
            "CanaryPaused",
            f"Deployment {names[1]} is paused, so that it would run what it ran before",
            f"kubectl rollout resume deployment/{names[1]}",
        )


# -- its Service -----------------------------------------------------------------------------------


def canary_service(
    service: Manifest,
    stable: Manifest,
    canary: Manifest,
    *,
    rollout: str,
    around: Surroundings = NOTHING_AROUND,
) -> dict[str, Any]:
    """A Service of the canary's pods that is reached as stable's is, for a router to send a share to.

    It is internal whatever stable's is: no address, node port or load balancer of its own. It goes with
    the canary Deployment. Raises BadState where stable's selects no pods of stable by labels.
    """
    selector = service_selector(service)
    own, other = labels(stable["spec"]["template"]), labels(canary["spec"]["template"])
    if at(service, "spec", "type") == "ExternalName" or not selects(selector, own):
        raise BadState(
            f"Service {name_of(service)} does not select the pods of Deployment {name_of(stable)}",
            remedy="name the Service by which its pods are reached",
        )
    apart = identity(stable, canary, around)
    looked_at = mapping(selector, "matchLabels")
    wanted = {key: other[key] for key in (*looked_at, *apart.canary) if key in other}
    spec: dict[str, Any] = {
        "type": "ClusterIP",
        "selector": wanted,
        "ports": [
            {key: port[key] for key in _KEPT_PORT if key in port} for port in items(service, "spec", "ports")
        ],
        **{key: service["spec"][key] for key in _KEPT_SERVICE if key in service["spec"]},
    }
    if at(service, "spec", "clusterIP") == "None":
        spec["clusterIP"] = "None"
    metadata = _metadata(stable, f"{name_of(service)}{SUFFIX}", rollout)
    kept = mapping(service, "metadata", "annotations")
    if annotations := {key: value for key, value in kept.items() if key.startswith(_KEPT_ANNOTATIONS)}:
        metadata["annotations"] = annotations
    if at(canary, "metadata", "uid"):
        metadata["ownerReferences"] = [owner_reference(canary)]
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
