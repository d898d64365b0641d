"""A rollout as the custom resource, and back. Pure.

What a person writes in `spec` stays theirs. What is asked for besides (the wanted revision, replicas,
commands) and what the machine remembers is in `status`, of which every write is conditional on the
resourceVersion: it is the version of the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from phoenix_orch.health_validator.observation import Verdict
from phoenix_orch.kernel.errors import Invalid, Terminal
from phoenix_orch.rollout.conditions import conditions
from phoenix_orch.rollout.kubernetes_spec import QUERIED, KubernetesRolloutSpec
from phoenix_orch.rollout.kubernetes_status import (
    KubernetesStatus,
    Outbox,
    VerdictSummary,
    Wanted,
    in_short,
)
from phoenix_orch.rollout.spec import Readings, RolloutSpec
from phoenix_orch.rollout.status import ACTIVE, Event, Release, Rollout, Status

Object = dict[str, Any]

OUTBOX_EVENTS = 200
OUTBOX_RELEASES = 5
"""Kept while the log is away, the newest: some 60 kB, and as much for verdicts; etcd takes 1.5 MB."""


def version_of(found: Object) -> int:
    """The version of the record."""
    return int(found["metadata"]["resourceVersion"])


def spec_of(found: Object) -> KubernetesRolloutSpec:
    """Raises Terminal for an object that these models cannot read."""
    try:
        return KubernetesRolloutSpec.model_validate(found["spec"])
    except ValidationError as error:
        raise _unreadable(found, "spec", error) from error


def status_of(found: Object) -> KubernetesStatus:
    """What is known here of its status. Raises Terminal where that cannot be read.

    Fields of a newer Phoenix are passed over, and stay in the object: `with_status`.
    """
    known = {info.alias or name for name, info in KubernetesStatus.model_fields.items()}
    kept = {key: value for key, value in found.get("status", {}).items() if key in known}
    try:
        return KubernetesStatus.model_validate(kept)
    except ValidationError as error:
        raise _unreadable(found, "status", error) from error


def _unreadable(found: Object, part: str, error: ValidationError) -> Terminal:
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(map(str, (part, *first["loc"])))
    return Terminal(
        f"rollout {found['metadata']['name']} cannot be read: {place}: {first['msg']}",
        remedy="upgrade Phoenix and its definition, or repair the object",
    )


def verdict_of(found: Object) -> Verdict | None:
    """The last verdict, without its evidence. Raises Terminal where it cannot be read."""
    kept = found.get("status", {}).get("verdict")
    if kept is None:
        return None
    try:
        return in_short(VerdictSummary.model_validate(kept))
    except ValidationError as error:
        raise _unreadable(found, "status.verdict", error) from error


def rollout_of(found: Object) -> Rollout:
    """The record. Raises Terminal."""
    spec, status = spec_of(found), status_of(found)
    wanted = status.wanted
    return Rollout(
        name=found["metadata"]["name"],
        service=spec.workload.name,
        route=spec.traffic.ingress or spec.traffic.http_route or "",
        spec=spec.common(),
        replicas=wanted.replicas,
        target=wanted.target,
        applied=wanted.applied,
        fast=wanted.fast,
        commands=status.commands,
        status=status.memory(),
        version=version_of(found),
    )


def wanted_of(rollout: Rollout) -> Wanted:
    """What is asked for besides the spec."""
    return Wanted(
        target=rollout.target, applied=rollout.applied, fast=rollout.fast, replicas=rollout.replicas
    )


def manifest_of(rollout: Rollout) -> Object:
    """A new object for a rollout that was asked for without one: its route is an Ingress."""
    spec = {
        "workload": {"name": rollout.service},
        "traffic": {"ingress": rollout.route},
        **common_parts(rollout.spec),
    }
    return {"metadata": {"name": rollout.name}, "spec": spec}


def common_parts(spec: RolloutSpec) -> Object:
    """The parts of the spec that every rollout has. Raises Invalid for what is not there in Kubernetes."""
    programs = [check.name for check in spec.checks if check.exec is not None]
    if programs:
        raise Invalid(
            f"check {programs[0]!r} is a program, and there are none in Kubernetes",
            remedy="make it a request or a Job",
        )
    dumped = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    readings = {info.alias or name for name, info in Readings.model_fields.items()}
    dumped["evidence"] = {key: value for key, value in dumped["evidence"].items() if key in readings}
    own = [value for value in dumped["evidence"]["values"] if value["gauge"] != QUERIED]
    dumped["evidence"]["values"] = own  # the others stand where they were written, as queries
    return dumped


def with_spec(found: Object, spec: RolloutSpec) -> Object:
    """The same object with these common parts, and its own traffic, canary and sources."""
    parts, before = common_parts(spec), found["spec"]
    jobs = [check for check in before.get("checks", ()) if "job" in check]
    merged = {
        **before,
        **parts,
        "evidence": {**before.get("evidence", {}), **parts["evidence"]},
        "policy": {**before.get("policy", {}), **parts["policy"]},
        "checks": [*parts["checks"], *jobs],
    }
    return {**found, "spec": merged}


def with_status(found: Object, status: KubernetesStatus) -> Object:
    """The same object with this status; what this version does not know stays in it."""
    known = {info.alias or name for name, info in KubernetesStatus.model_fields.items()}
    unknown = {key: value for key, value in found.get("status", {}).items() if key not in known}
    dumped = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {**found, "status": {**unknown, **dumped}}


def decided(
    found: Object,
    memory: Status,
    now: datetime,
    *,
    events: tuple[Event, ...],
    release: Release | None,
    logged: bool,
) -> KubernetesStatus:
    """The status after a decision, with what a person looks at. `logged`: the outbox is in the log."""
    before, spec = status_of(found), spec_of(found)
    kept = Outbox() if logged else before.outbox
    steps = spec.steps()
    walking = memory.state in ACTIVE and memory.step < len(steps)
    generation = found["metadata"].get("generation", 0)
    return before.model_copy(
        update={
            **{name: getattr(memory, name) for name in Status.model_fields},
            "commands": tuple(c for c in before.commands if c.id not in memory.handled),
            "outbox": Outbox(
                events=(*kept.events, *events)[-OUTBOX_EVENTS:],
                releases=(*kept.releases, *([release] if release else []))[-OUTBOX_RELEASES:],
            ),
            "phase": steps[memory.step].phase if walking else "",
            "observed_generation": generation,
            "conditions": conditions(
                memory, now, before.conditions, verdict=before.verdict, generation=generation
            ),
        }
    )


def uid_of(found: Mapping[str, Any]) -> str:
    """Tells an object from another one of the same name before or after it."""
    return str(found["metadata"]["uid"])
