"""How many pods a canary has, and how much traffic stable can take back. Pure.

Stable's number of pods is never written: it belongs to the user or to an autoscaler.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.manifest import Manifest, Patch, annotation, at, name_of
from phoenix_orch.workload.deployment.refusal import Refusal
from phoenix_orch.workload.deployment.target import replicas_of

HEADROOM = 1.25
"""Times the load of a full-sized stable that its pods get while an autoscaler adds to them. Above 1.1, from
which on an autoscaler sees a reason to."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """How large a canary may be."""

    minimum: int = 1
    """Pods that it has at any weight: one pod of a small share is one look at the version; two survive the
    loss of a node."""
    surge: int = 100
    """Pods that it may have at most, in per cent of the pods that carry all traffic: it bounds the nodes
    that a release takes. Above 100 where traffic may grow during a release."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a canary should have for a weight."""

    pods: int
    carries: int
    """The weight in per cent that so many pods carry without being loaded more than stable's."""


def autoscaler_of(deployment: Manifest, autoscalers: Sequence[Manifest]) -> Manifest | None:
    """The HorizontalPodAutoscaler that sets its replicas."""
    for one in autoscalers:
        target = at(one, "spec", "scaleTargetRef") or {}
        group = str(target.get("apiVersion", "")).partition("/")[0]
        if group == "apps" and (target.get("kind"), target.get("name")) == (
            "Deployment",
            name_of(deployment),
        ):
            return one
    return None


def full_size(stable: Manifest, autoscaler: Manifest | None, kept: int = 0) -> int:
    """Pods that carry all traffic: those at the start of the release, or more if there are more by now.

    An autoscaler takes pods away from stable as the canary takes over its traffic, so the number at the
    start is `kept` (`kept_size`).
    """
    least = int(at(autoscaler, "spec", "minReplicas") or 1) if autoscaler is not None else 0
    return max(replicas_of(stable), least, kept)


def kept_size(canary: Manifest, revision: str) -> int:
    """Pods of stable when the release of `revision` began; 0: not kept.

    It is kept on the canary: a `kubectl rollout undo` of stable puts older annotations back.
    """
    count, _, of = (annotation(canary, marks.FULL_SIZE) or "").partition("/")
    return int(count) if of == revision and count.isdecimal() else 0


def keep_size(stable: Manifest, canary: Manifest, revision: str) -> Patch | None:
    """The patch of the canary that keeps it, before any traffic has moved; None: it is kept already."""
    if kept_size(canary, revision):
        return None
    return {"metadata": {"annotations": {marks.FULL_SIZE: f"{replicas_of(stable)}/{revision}"}}}


def scaled_to_zero(stable: Manifest) -> Refusal | None:
    """No weight may be raised: a router answers with errors where the main service has no pods (R5)."""
    if replicas_of(stable) > 0:
        return None
    name = name_of(stable)
    return Refusal(
        "ScaledToZero",
        f"Deployment {name} is scaled to zero: there is no traffic to share and nobody to compare with",
        f"kubectl scale deployment/{name} --replicas=2, or wait until its scaler does",
    )


def autoscaled(canary: Manifest, autoscalers: Sequence[Manifest]) -> Refusal | None:
    """Somebody else sets the replicas of the canary, too."""
    own = autoscaler_of(canary, autoscalers)
    if own is None:
        return None
    return Refusal(
        "CanaryAutoscaled",
        f"the HorizontalPodAutoscaler {name_of(own)} sets the replicas of the canary {name_of(canary)}",
        f"kubectl delete hpa {name_of(own)}: the canary is as large as its weight needs",
    )


def canary_size(
    stable: Manifest,
    weight: int,
    *,
    sizing: Sizing = Sizing(),
    autoscaler: Manifest | None = None,
    kept: int = 0,
) -> Size:
    """Pods that a canary needs for `weight` per cent of the traffic, so that its pods carry no more each
    than stable's.

    Stable keeps its size while the canary grows, so the share is one of the full size: 5 % of 3 pods is
    one pod, 20 % of 10 are two. Where an autoscaler follows stable's load, stable's present pods carry
    100 - weight per cent, and the canary's are in proportion to them: more when traffic has grown. At 100
    nothing is left to tell by, and none is taken away again. Weight 0 has no pods. Raises Invalid for a
    weight that is none.
    """
    if not 0 <= weight <= 100:
        raise Invalid(f"{weight} is no weight", remedy="give 0 to 100 per cent")
    full = full_size(stable, autoscaler, kept)
    if weight == 0 or full == 0:
        return Size(0, 0)
    needed = math.ceil(full * weight / 100)
    wanted = needed
    if autoscaler is not None:
        share = min(weight, 99)
        wanted = max(needed, math.ceil(replicas_of(stable) * share / (100 - share)))
    if weight < 100:
        needed = wanted
    bound = max(1, sizing.minimum, full * sizing.surge // 100)
    pods = min(max(wanted, sizing.minimum, 1), bound)
    return Size(pods, weight if pods >= needed else pods * weight // needed)


def weight_to_leave(ready: int, full: int, *, autoscaled: bool) -> int:
    """The weight in per cent that has to stay with the canary after a promotion, for stable's sake (R5).

    `ready`: pods of stable that run the promoted revision and are available. Those take their share of
    the full size at once. An autoscaler that has shrunk stable adds pods only to loaded ones: they get a
    little more than that, and again when there are more of them.
    """
    if full <= 0 or ready >= full:
        return 0
    share = ready / full * (HEADROOM if autoscaled else 1.0)
    return max(0, 100 - math.floor(share * 100))
