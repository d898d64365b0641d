"""What pods tell of a revision, and what they tell of the cluster instead. Pure.

Two kinds of bad news have to be kept apart. What the version does itself (it crashes, runs out of memory,
cannot be started) becomes an `Exit`, from which the rollback controller judges. What the cluster does to
it (no room, a lost node, an eviction, a quota, a registry that is away) says nothing of the version: it
becomes a `Trouble`, for which a release waits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from phoenix_orch.workload.deployment.history import moment
from phoenix_orch.workload.deployment.manifest import (
    Manifest,
    annotation,
    at,
    items,
    mapping,
    name_of,
    uid_of,
)
from phoenix_orch.workload.deployment.metrics_page import metrics_port
from phoenix_orch.workload.workload import Exit, Instance, InstanceState

CANNOT_START = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
"""Why a container waits that was never started."""

_NEVER_RAN = frozenset({"StartError", "ContainerCannotRun"})
"""Reasons of containers that are said to have ended, and whose program could not be run."""

_THE_CLUSTER = frozenset(
    {
        "Evicted",
        "NodeLost",
        "NodeShutdown",
        "NodeAffinity",
        "Shutdown",
        "Terminated",
        "Preempting",
        "Preempted",
        "UnexpectedAdmissionError",
        "OutOfcpu",
        "OutOfmemory",
        "OutOfpods",
        "OutOfephemeral-storage",
        "ContainerStatusUnknown",
    }
)
"""Reasons of pods and containers that ended by the will of a node or of the scheduler."""

_OWN_STORAGE = re.compile(r"exceed(?:s|ed) (?:its|the) (?:total |local ephemeral storage )?limit")
"""An eviction for the pod's own use of its own limits is the version's doing."""
_REGISTRY_AWAY = re.compile(
    r"timeout|timed out|connection refused|connection reset|no such host|temporary failure|TLS handshake"
    r"|too many requests|toomanyrequests|50[0234]\b|server misbehaving|unreachable|EOF\b",
    re.IGNORECASE,
)
_CONTAINER_PATH = re.compile(r"(?:initContainers|containers)\{(?P<name>[^}]+)\}")
_PROBES = ("liveness", "startup")
_SIGKILL = 137
_MOST_EXITS = 100


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something of the cluster that keeps pods from running or made them end."""

    reason: str
    """CamelCase, as Kubernetes names it: FailedScheduling, Evicted, FailedCreate, ..."""
    message: str
    pod: str = ""
    """Empty: of a Deployment."""


@dataclass(frozen=True, slots=True)
class Health:
    """What the pods of one revision tell."""

    instances: tuple[Instance, ...] = ()
    exits: tuple[Exit, ...] = ()
    """Oldest first."""
    troubles: tuple[Trouble, ...] = ()

    def blocked(self) -> str:
        """Why it is no fault of the version that there are too few pods, for people; empty: nothing is."""
        return "; ".join(dict.fromkeys(f"{one.reason}: {one.message}" for one in self.troubles))


def health(pods: Sequence[Manifest], events: Sequence[Manifest], revisions: Mapping[str, str]) -> Health:
    """What these pods and the events about them tell.

    `revisions`: the revision of each pod by its uid; pods without one are somebody else's. `events` are
    those of the core or the `events.k8s.io` group.
    """
    told = _by_pod(events)
    instances: list[Instance] = []
    exits: list[Exit] = []
    troubles: list[Trouble] = []
    for pod in pods:
        if (revision := revisions.get(uid_of(pod))) is None:
            continue
        about = told.get(uid_of(pod), [])
        troubles += _troubles(pod, about)
        if not _ended(pod):
            instances.append(_instance(pod, revision))
        exits += _exits(pod, revision, about)
    exits.sort(key=lambda one: one.at)
    return Health(tuple(instances), tuple(exits[-_MOST_EXITS:]), tuple(troubles))


def deployment_troubles(deployment: Manifest) -> tuple[tuple[Trouble, ...], str]:
    """(what the cluster refuses, why the template is refused) by the condition ReplicaFailure.

    A quota and a webhook that is away pass; a template that the API server or a policy refuses does not.
    """
    for condition in items(deployment, "status", "conditions"):
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            message = str(condition.get("message") or "")
            if re.search(
                r"exceeded quota|failed calling webhook|timeout|unable to create new content", message
            ):
                return (Trouble(str(condition.get("reason") or "FailedCreate"), message),), ""
            return (), message
    return (), ""


# -- one pod ---------------------------------------------------------------------------------------


def _ended(pod: Manifest) -> bool:
    """It runs no more and is kept for people to look at."""
    return at(pod, "status", "phase") in ("Failed", "Succeeded")


def _instance(pod: Manifest, revision: str) -> Instance:
    ready = _condition(pod, "Ready")
    state = _state(pod, ready)
    running = [at(one, "state", "running", "startedAt") for one in _main(pod)]
    started = max((found for one in running if (found := moment(one))), default=None)
    metrics = annotation(pod, "prometheus.io/path") or (
        "/metrics" if annotation(pod, "prometheus.io/scrape") == "true" else None
    )
    return Instance(
        name=name_of(pod),
        revision=revision,
        state=state,
        started=started.timestamp() if started else None,
        port=metrics_port(pod),
        ready_since=moment(ready.get("lastTransitionTime")) if state is InstanceState.READY else None,
        metrics_path=metrics,
    )


def _state(pod: Manifest, ready: Manifest) -> InstanceState:
    if at(pod, "metadata", "deletionTimestamp"):
        return InstanceState.DRAINING
    if ready.get("status") == "True":
        return InstanceState.READY
    if any(_waits(one) for one in _containers(pod)):
        return InstanceState.BACKOFF
    changed = moment(ready.get("lastTransitionTime"))
    since = [moment(at(one, "state", "running", "startedAt")) for one in _main(pod)]
    begun = max((one for one in since if one is not None), default=None)
    # Not ready is how a pod begins; a change after its containers had started is a loss.
    lost = changed is not None and begun is not None and None not in since and changed > begun
    return InstanceState.UNREADY if lost else InstanceState.STARTING


def _waits(container: Manifest) -> bool:
    """It ended, or cannot be started, and waits for the next attempt."""
    reason = at(container, "state", "waiting", "reason")
    if reason in CANNOT_START or reason == "CrashLoopBackOff":
        return True
    return at(container, "state", "terminated", "exitCode") not in (None, 0)


def _condition(pod: Manifest, kind: str) -> Manifest:
    conditions = items(pod, "status", "conditions")
    return next((one for one in conditions if one.get("type") == kind), {})


def _main(pod: Manifest) -> list[Any]:
    return items(pod, "status", "containerStatuses")


def _containers(pod: Manifest) -> list[Any]:
    return [*items(pod, "status", "initContainerStatuses"), *_main(pod)]


# -- what the cluster does -------------------------------------------------------------------------


def _by_the_cluster(pod: Manifest) -> Trouble | None:
    """The pod was ended by a node, the scheduler or an eviction, for nothing that it did itself."""
    status = mapping(pod, "status")
    reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
    if reason == "Evicted" and _OWN_STORAGE.search(message):
        return None
    if reason in _THE_CLUSTER:
        return Trouble(reason, message or "the pod was ended by its node", name_of(pod))
    target = _condition(pod, "DisruptionTarget")
    if target.get("status") == "True":
        told = str(target.get("message") or "the pod is in the way of something else")
        return Trouble(str(target.get("reason") or "Disrupted"), told, name_of(pod))
    if status.get("phase") == "Unknown":
        return Trouble("NodeLost", "the node of the pod does not answer", name_of(pod))
    return None


def _troubles(pod: Manifest, events: Sequence[Manifest]) -> Iterator[Trouble]:
    if (ended := _by_the_cluster(pod)) is not None:
        yield ended
        return
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        told = str(scheduled.get("message") or "there is no room for the pod")
        yield Trouble("FailedScheduling", told, name_of(pod))
    for container in _containers(pod):
        waiting = mapping(container, "state", "waiting")
        if waiting.get("reason") in CANNOT_START and _registry_is_away(waiting, events):
            yield Trouble("RegistryUnavailable", _pull_message(waiting, events), name_of(pod))
    if at(pod, "status", "phase") == "Pending":
        for event in events:
            if event.get("reason") in ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox"):
                yield Trouble(str(event["reason"]), _note(event), name_of(pod))
                return


def _registry_is_away(waiting: Manifest, events: Sequence[Manifest]) -> bool:
    """The image may be right: nobody could be asked for it."""
    pulling = waiting.get("reason") in ("ErrImagePull", "ImagePullBackOff")
    return pulling and _REGISTRY_AWAY.search(_pull_message(waiting, events)) is not None


def _pull_message(waiting: Manifest, events: Sequence[Manifest]) -> str:
    """Why the image was not pulled; while the kubelet waits it says only that it waits."""
    if waiting.get("reason") == "ErrImagePull":
        return str(waiting.get("message") or "")
    failed = [_note(event) for event in events if event.get("reason") == "Failed" and "pull" in _note(event)]
    return failed[-1] if failed else str(waiting.get("message") or "")


# -- what the version does -------------------------------------------------------------------------


def _exits(pod: Manifest, revision: str, events: Sequence[Manifest]) -> Iterator[Exit]:
    name = name_of(pod)
    if _by_the_cluster(pod) is not None:
        return
    status = mapping(pod, "status")
    if status.get("reason") == "Evicted":
        told = str(status.get("message") or "")
        evicted = moment(_condition(pod, "DisruptionTarget").get("lastTransitionTime")) or _begun(pod)
        if evicted is not None:
            yield Exit(instance=name, revision=revision, at=evicted, reason="exited", detail=told)
        return
    for container in _containers(pod):
        yield from _ends(pod, container, revision, events)
        waiting = mapping(container, "state", "waiting")
        if waiting.get("reason") in CANNOT_START and not _registry_is_away(waiting, events):
            yield from _failures_to_start(pod, container, revision, events)


def _ends(pod: Manifest, container: Manifest, revision: str, events: Sequence[Manifest]) -> Iterator[Exit]:
    """Each end of a container that was restarted, or failed for good.

    A pod tells when its container ended last and how often it was started anew. Of the ends before the
    last only that they came after the pod began is known, so that is when they are said to have been:
    they count where it is sure that they are recent.
    """
    init = container in items(pod, "status", "initContainerStatuses")
    present = mapping(container, "state", "terminated")
    last = mapping(container, "lastState", "terminated")
    again = int(container.get("restartCount") or 0)
    begun = _begun(pod)
    if present and not (init and present.get("exitCode") == 0):
        yield from _one_end(pod, container, present, revision, events)
    if again and last and not _says_nothing(last):
        earlier = dict(last)
        earlier["finishedAt"] = begun.isoformat() if begun else last.get("finishedAt")
        for _ in range(min(again, _MOST_EXITS) - 1):
            yield from _one_end(pod, container, earlier, revision, events)
        yield from _one_end(pod, container, last, revision, events)


def _begun(pod: Manifest) -> datetime | None:
    return moment(at(pod, "status", "startTime") or at(pod, "metadata", "creationTimestamp"))


def _says_nothing(terminated: Manifest) -> bool:
    return terminated.get("reason") in _THE_CLUSTER


def _one_end(
    pod: Manifest,
    container: Manifest,
    terminated: Manifest,
    revision: str,
    events: Sequence[Manifest],
) -> Iterator[Exit]:
    finished = moment(terminated.get("finishedAt"))
    if finished is None or _says_nothing(terminated) or at(pod, "metadata", "deletionTimestamp"):
        return
    code = terminated.get("exitCode")
    reason, detail = _how(container, terminated, events)
    yield Exit(
        instance=name_of(pod),
        revision=revision,
        at=finished,
        code=int(code) if code is not None else None,
        reason=reason,
        detail=detail,
    )


def _how(container: Manifest, terminated: Manifest, events: Sequence[Manifest]) -> tuple[str, str]:
    name = str(container.get("name") or "")
    if terminated.get("reason") == "OOMKilled":
        return "oom", f"container {name}"
    killing = [_note(event) for event in events if event.get("reason") == "Killing"]
    if any(f"Container {name} failed {kind} probe" in note for note in killing for kind in _PROBES):
        return "unhealthy", f"container {name} failed its probe"
    if terminated.get("exitCode") == _SIGKILL:
        return "killed", f"container {name}"
    told = str(terminated.get("message") or terminated.get("reason") or "")
    how = "cannot-start" if terminated.get("reason") in _NEVER_RAN else "exited"
    return how, f"container {name}: {told}".rstrip(": ")


def _failures_to_start(
    pod: Manifest, container: Manifest, revision: str, events: Sequence[Manifest]
) -> Iterator[Exit]:
    """One for each attempt that the events tell of, at least one."""
    waiting, name = mapping(container, "state", "waiting"), str(container.get("name") or "")
    tries = [event for event in events if event.get("reason") == "Failed" and _is_about(event, name)]
    tries = [event for event in tries if not _note(event).startswith("Error: ImagePullBackOff")]
    count = max((_count(event) for event in tries), default=1)
    when = max((found for event in tries if (found := _last(event))), default=None)
    when = when or _begun(pod)
    if when is None:
        return
    told = _pull_message(waiting, events) or str(waiting.get("message") or "")
    detail = f"container {name}: {waiting.get('reason')}: {told}".rstrip(": ")
    for _ in range(min(count, _MOST_EXITS)):
        yield Exit(instance=name_of(pod), revision=revision, at=when, reason="cannot-start", detail=detail)


# -- events, of either group -----------------------------------------------------------------------


def _by_pod(events: Sequence[Manifest]) -> dict[str, list[Manifest]]:
    """Events about pods by the pod's uid, oldest first."""
    found: dict[str, list[Manifest]] = {}
    for event in events:
        about = mapping(event, "regarding") or mapping(event, "involvedObject")
        if about.get("kind") == "Pod":
            found.setdefault(str(about.get("uid")), []).append(event)
    for each in found.values():
        each.sort(key=lambda event: str(_last(event) or ""))
    return found


def _is_about(event: Manifest, container: str) -> bool:
    about = mapping(event, "regarding") or mapping(event, "involvedObject")
    found = _CONTAINER_PATH.search(str(about.get("fieldPath") or ""))
    return found is None or found["name"] == container


def _note(event: Manifest) -> str:
    return str(event.get("note") or event.get("message") or "")


def _count(event: Manifest) -> int:
    found = at(event, "series", "count") or event.get("deprecatedCount") or event.get("count") or 1
    return int(found)


def _last(event: Manifest) -> datetime | None:
    return (
        moment(at(event, "series", "lastObservedTime"))
        or moment(event.get("deprecatedLastTimestamp") or event.get("lastTimestamp"))
        or moment(event.get("eventTime"))
        or moment(at(event, "metadata", "creationTimestamp"))
    )
