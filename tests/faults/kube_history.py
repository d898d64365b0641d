"""What happened in a namespace, in the order in which the API server took it, and the rules that it obeys.

All objects of a cluster count their versions together, so that the changes of a Rollout, of what carries its
weight and of its Deployments have one order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from phoenix_orch.kube.resources import Object
from phoenix_orch.rollout.status import ACTIVE, State
from phoenix_orch.traffic.kube_record import ABORT, TRAFFIC, WEIGHT, latches

Status = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One object as it was written, or as it was when it was deleted."""

    version: int
    found: Object
    deleted: bool = False


@dataclass(slots=True)
class View:
    """How things stand after some changes."""

    stable_name: str
    replicas: int
    """What stable is to have."""
    owners: bool = False
    """People delete things: stable's pods, and canaries with the weight that they had."""
    rollout: Object | None = None
    carrier: Object | None = None
    """What carries the weight."""
    deployments: dict[str, Object] = field(default_factory=dict)
    latched: tuple[str, ...] = ()
    """Every revision that was latched and not let go by a person."""

    def after(self, change: Change) -> View:
        found, name = change.found, change.found["metadata"]["name"]
        now = None if change.deleted else found
        match found["kind"]:
            case "Rollout":
                self.rollout = now
            case "Deployment":
                self.deployments.pop(name, None)
                if now is not None:
                    self.deployments[name] = now
            case "HTTPRoute":
                self.carrier = now
            case "Ingress" if name != self.stable_name:
                self.carrier = now
        return self

    @property
    def status(self) -> Status:
        return self.rollout.get("status", {}) if self.rollout is not None else {}

    @property
    def state(self) -> str:
        return str(self.status.get("state", ""))

    @property
    def weight(self) -> int:
        """By the label, which is written together with the weight."""
        said = self.carrier["metadata"].get("labels", {}).get(WEIGHT) if self.carrier is not None else None
        return int(said) if said else 0

    @property
    def carried(self) -> dict[str, Any]:
        """The record of the carrier; empty: none."""
        text = self.carrier["metadata"].get("annotations", {}).get(TRAFFIC) if self.carrier else None
        state: dict[str, Any] = json.loads(text)["state"] if text else {}
        return state

    @property
    def carried_revision(self) -> str:
        return str((self.carried.get("canary") or {}).get("revision", ""))

    @property
    def latches(self) -> tuple[str, ...]:
        """What the carrier says."""
        return latches(self.carrier) if self.carrier is not None else ()

    def image(self, name: str) -> str:
        found = self.deployments.get(name)
        return str(found["spec"]["template"]["spec"]["containers"][0]["image"]) if found else ""

    def size(self, name: str) -> int:
        found = self.deployments.get(name)
        return int(found["spec"]["replicas"]) if found else 0

    def ready(self, name: str) -> int:
        found = self.deployments.get(name)
        return int(found.get("status", {}).get("readyReplicas", 0)) if found else 0


def violations(changes: Iterable[Change], view: View, *, evidence: bool) -> list[str]:
    """Rules that were broken, in words. `evidence`: the canary's numbers are good; without it no step but the
    first may be reached."""
    broken: list[str] = []
    served, weight = False, 0
    for change in sorted(changes, key=lambda one: one.version):
        before = view.weight
        view = view.after(change)
        weight = view.weight
        told = [
            *(_traffic(view, before, evidence=evidence) if weight > before else ()),
            *_latch(view),
            *_stable(view, served=served),
        ]
        broken += [f"{one} (version {change.version})" for one in told]
        served = served or view.ready(view.stable_name) == view.replicas
    return list(dict.fromkeys(broken))


def _traffic(view: View, before: int, *, evidence: bool) -> Iterable[str]:
    """Of a weight that rose."""
    status, weight = view.status, view.weight
    if view.rollout is None:
        if not view.owners:  # who has not heard of the deletion yet goes on for a moment
            yield f"R13: the weight rises from {before} to {weight} without a Rollout"
    elif view.state not in ACTIVE:
        yield f"R3: the weight rises from {before} to {weight} while {view.state}"
    elif weight > status.get("weight", 0):
        yield f"R3: the weight is {weight}, and the step's {status.get('weight', 0)}"
    if not evidence and status.get("step", 0) > 0:
        yield f"R1: step {status.get('step')} was reached without good evidence"
    if view.size(f"{view.stable_name}-canary") == 0 and not view.owners:
        yield f"R5: the weight rises to {weight} for a canary without pods"


def _latch(view: View) -> Iterable[str]:
    if view.carrier is None:
        return
    lost = [one for one in view.latched if one not in (*view.latches, *view.carried.get("aborted", ()))]
    if lost and view.rollout is not None and view.carried:
        yield f"R4: the latch of {', '.join(lost)} is lost"
    view.latched = tuple(dict.fromkeys((*view.latched, *view.latches)))
    if view.weight > 0 and view.carried_revision in view.latched:
        yield f"R4: {view.carried_revision} is latched and has weight {view.weight}"


def _stable(view: View, *, served: bool) -> Iterable[str]:
    stable = view.deployments.get(view.stable_name)
    if stable is None:
        return
    if view.size(view.stable_name) != view.replicas:
        yield f"R5: stable was scaled to {view.size(view.stable_name)}"
    canary = view.size(f"{view.stable_name}-canary")
    if canary > view.replicas:
        yield f"R5: the canary has {canary} pods, more than all requests need"
    if served and not view.owners and view.ready(view.stable_name) < view.replicas:
        yield f"R5: stable has {view.ready(view.stable_name)} of {view.replicas} pods"


def resting(view: View) -> bool:
    return view.state in {State.PROMOTED, State.ROLLED_BACK, State.IDLE}


__all__ = ["ABORT", "Change", "View", "resting", "violations"]
