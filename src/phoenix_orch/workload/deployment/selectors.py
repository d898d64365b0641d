"""Which pods a selector selects, and how labels of a canary are told from those of stable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.manifest import (
    Manifest,
    annotation,
    items,
    labels,
    mapping,
    name_of,
)


def selects(selector: Manifest | None, pod_labels: Mapping[str, str]) -> bool:
    """A LabelSelector selects these labels. None selects nothing, an empty one everything."""
    if selector is None:
        return False
    wanted = mapping(selector, "matchLabels")
    if any(pod_labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_holds(expression, pod_labels) for expression in items(selector, "matchExpressions"))


def _holds(expression: Manifest, pod_labels: Mapping[str, str]) -> bool:
    key, values = expression.get("key", ""), expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return key in pod_labels and pod_labels[key] in values
        case "NotIn":
            return key not in pod_labels or pod_labels[key] not in values
        case "Exists":
            return key in pod_labels
        case "DoesNotExist":
            return key not in pod_labels
    return False


def service_selector(service: Manifest) -> Manifest | None:
    """A Service's selector as a LabelSelector. None: its endpoints are somebody else's business."""
    wanted = mapping(service, "spec", "selector")
    return {"matchLabels": wanted} if wanted else None


def keys(selector: Manifest | None) -> frozenset[str]:
    """The labels that a selector looks at."""
    if selector is None:
        return frozenset()
    named = {expression.get("key", "") for expression in items(selector, "matchExpressions")}
    return frozenset(named | set(mapping(selector, "matchLabels")))


@dataclass(frozen=True, slots=True)
class Identity:
    """The labels by which canary pods differ from stable pods without running anything else.

    Each maps a key to its value; a key that one side lacks is missing there.
    """

    stable: Mapping[str, str]
    canary: Mapping[str, str]

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(self.stable) | frozenset(self.canary)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else selects pods in the namespace."""

    services: Sequence[Manifest] = ()
    budgets: Sequence[Manifest] = ()

    def selecting(self, pod_labels: Mapping[str, str]) -> Iterator[tuple[str, Manifest]]:
        """Name and selector of each that selects these pods.

        Services that carry no traffic, as their owner says, are left out.
        """
        for service in self.services:
            selector = service_selector(service)
            traffic = annotation(service, marks.SELECTS_BOTH) != "true"
            if selector is not None and traffic and selects(selector, pod_labels):
                yield f"Service {name_of(service)}", selector
        for budget in self.budgets:
            selector = mapping(budget, "spec", "selector")
            if selects(selector, pod_labels):
                yield f"PodDisruptionBudget {name_of(budget)}", selector


NOTHING_AROUND = Surroundings()


def identity(stable: Manifest, canary: Manifest, around: Surroundings = NOTHING_AROUND) -> Identity:
    """What tells the pods of two Deployments apart: labels that selectors look at and that differ.

    A label with the value `canary` is one too, whoever looks at it: nobody wants it on stable.
    """
    own, other = labels(stable["spec"]["template"]), labels(canary["spec"]["template"])
    looked_at = keys(stable["spec"].get("selector")) | keys(canary["spec"].get("selector"))
    looked_at = looked_at.union(*(keys(selector) for _, selector in around.selecting(own)))
    looked_at |= {key for key, value in other.items() if value == "canary"}
    apart = {key for key in looked_at if own.get(key) != other.get(key)}
    return Identity(
        {key: own[key] for key in apart if key in own}, {key: other[key] for key in apart if key in other}
    )


def as_stable(template: Manifest, identity: Identity) -> dict[str, Any]:
    """A canary's pod template as stable would run it: stable's labels, and selectors that mean them."""
    return _renamed(template, identity.canary, identity.stable, identity.keys, own=False)


def as_canary(template: Manifest, identity: Identity) -> dict[str, Any]:
    """Stable's pod template under the canary's labels.

    Affinity and spread that mean stable's own pods mean the canary's own then; those that mean others
    go on meaning those.
    """
    return _renamed(template, identity.stable, identity.canary, identity.keys, own=True)


def _renamed(
    template: Manifest,
    before: Mapping[str, str],
    after: Mapping[str, str],
    renamed: frozenset[str],
    *,
    own: bool,
) -> dict[str, Any]:
    """`own`: only selectors that select the template's own labels are rewritten."""
    pod_labels = labels(template)

    def rewrite(tree: Any) -> Any:
        if isinstance(tree, Mapping):
            return {
                key: _selector(value) if key == "labelSelector" else rewrite(value)
                for key, value in tree.items()
            }
        return [rewrite(one) for one in tree] if isinstance(tree, list) else tree

    def _selector(selector: Any) -> Any:
        if not isinstance(selector, Mapping) or (own and not selects(selector, pod_labels)):
            return selector
        return _renamed_selector(selector, before, after)

    spec = dict(template.get("spec", {}))
    for part in ("affinity", "topologySpreadConstraints"):
        if part in spec:
            spec[part] = rewrite(spec[part])
    kept = {key: value for key, value in pod_labels.items() if key not in renamed}
    metadata = {**mapping(template, "metadata"), "labels": {**kept, **after}}
    return {**template, "metadata": metadata, "spec": spec}


def _renamed_selector(
    selector: Manifest, before: Mapping[str, str], after: Mapping[str, str]
) -> dict[str, Any]:
    renamed = dict(selector)
    if "matchLabels" in selector:
        found = mapping(selector, "matchLabels")
        renamed["matchLabels"] = {
            key: after[key] if key in after and before.get(key) == value else value
            for key, value in found.items()
        }
    if "matchExpressions" in selector:
        renamed["matchExpressions"] = [
            _renamed_expression(one, before, after) for one in items(selector, "matchExpressions")
        ]
    return renamed


def _renamed_expression(
    expression: Manifest, before: Mapping[str, str], after: Mapping[str, str]
) -> dict[str, Any]:
    key = expression.get("key", "")
    if expression.get("operator") != "In" or key not in before or key not in after:
        return dict(expression)
    values = [after[key] if value == before[key] else value for value in expression.get("values") or ()]
    return {**expression, "values": values}
