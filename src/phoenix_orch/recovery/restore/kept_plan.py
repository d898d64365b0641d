"""What restores have kept of before, and which of it may go. Pure.

Nothing goes that does not say by Phoenix's own mark until when it is kept, or before that time, or while
anything has it or could need it: a claim, a pod, a workload of no pods, a restore that has not ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from phoenix_orch.kube.resources import Object, version_of
from phoenix_orch.recovery.restore import exchange_plan, volume_swap
from phoenix_orch.recovery.restore.exchange_plan import KEPT, NOTE, PLACE
from phoenix_orch.recovery.sources.snapshot_plan import CLAIMS, VOLUMES, quantity

PROVISIONER = "pv.kubernetes.io/provisioned-by"
"""Annotation of a volume that a provisioner has made, and deletes in the storage with its object."""
FREE = frozenset({"Released", "Failed"})
"""Phases of a volume whose claim is gone; the second: it could not be deleted."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One thing that a restore has kept: a volume, a claim or a folder."""

    kind: str
    name: str
    of: str
    """The claim, or the folder, whose state it was."""
    until: datetime | None
    """None: its mark is no time, as whoever wants it for ever writes it."""
    size: int
    """Bytes that it may hold; 0: not known."""
    stays: str
    """Why it does not go; empty: it may."""
    version: str = ""
    """Of the object that was looked at: its resourceVersion."""
    uid: str = ""


def volumes(found: Sequence[Object], claims: Iterable[Object], namespace: str, now: datetime) -> list[Kept]:
    """Of claims of a namespace. `found`: all volumes of the cluster; `claims`: those of the namespace."""
    uids = {str(one["metadata"]["uid"]): str(one["metadata"]["name"]) for one in claims}
    needed, unread = _needed(found)
    handles = _handles(found)
    made = []
    for one in found:
        text, holder = _mark(one), one["spec"].get("claimRef") or {}
        if text is None or holder.get("namespace") != namespace:
            continue
        name = str(one["metadata"]["name"])
        until = moment(text)
        stays = (
            _time(text, until, now)
            or _restoring(one)
            or (f"a restore of {needed[name]} has not ended" if name in needed else "")
            or (f"what a restore has noted on {unread} cannot be read" if unread else "")
            or _held(one, uids)
            or _shared(one, handles)
            or _unprovisioned(one)
        )
        size = quantity(one["spec"]["capacity"]["storage"])
        of = str(holder.get("name", ""))
        made.append(Kept(VOLUMES.kind, name, of, until, size, stays, *_seen(one)))
    return made


def claims(found: Iterable[Object], users: Mapping[str, Sequence[str]], now: datetime) -> list[Kept]:
    """Claims that were replaced by another one. `users`: who uses each, by its name."""
    made = []
    for one in found:
        text = _mark(one)
        if text is None:
            continue
        name = str(one["metadata"]["name"])
        until, using = moment(text), users.get(name, ())
        stays = _time(text, until, now) or (f"{', '.join(using[:3])} has it" if using else "")
        asked = one["spec"].get("resources", {}).get("requests", {}).get("storage", 0)
        made.append(Kept(CLAIMS.kind, name, name, until, quantity(asked), stays, *_seen(one)))
    return made


def users(workloads: Iterable[Object], pods: Iterable[Object], kept: Iterable[str]) -> dict[str, list[str]]:
    """Who uses each of the claims, also with no pod at this moment. `workloads`: with their kinds."""
    all_pods, found = list(pods), {name: list[str]() for name in kept}
    known = [(f"{one['kind']} {one['metadata']['name']}", one) for one in workloads]
    for name, using in found.items():
        for word, one in known:
            if exchange_plan.uses(_like_deployment(one), name) or name in volume_swap.noted(one):
                using.append(word)
        using += [f"Pod {pod}" for pod in exchange_plan.users(all_pods, name)]
    return found


def moment(text: str) -> datetime | None:
    """A time with its zone; None for anything else."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _seen(found: Object) -> tuple[str, str]:
    return version_of(found), str(found["metadata"]["uid"])


def _mark(found: Object) -> str | None:
    text = (found["metadata"].get("annotations") or {}).get(KEPT)
    return None if text is None else str(text)


def _time(text: str, until: datetime | None, now: datetime) -> str:
    if until is None:
        return f"it is kept until {text!r}, which is no time"
    return "its time has not come" if now < until else ""


def _restoring(volume: Object) -> str:
    metadata = volume["metadata"]
    marked = NOTE in (metadata.get("annotations") or {}) or PLACE in (metadata.get("labels") or {})
    return "a restore puts it under a claim" if marked else ""


def _needed(found: Iterable[Object]) -> tuple[dict[str, str], str]:
    """Volumes that a restore which has not ended would go back to, with the claims; and one whose note says
    nothing that can be read: it may need any of them."""
    needed, unread = dict[str, str](), ""
    for one in found:
        text = (one["metadata"].get("annotations") or {}).get(NOTE)
        if not text:
            continue
        try:
            note = json.loads(text)
            needed[str(note["old_volume"])] = str(note["claim"])
        except (ValueError, KeyError, TypeError):
            unread = str(one["metadata"]["name"])
    return needed, unread


def _held(volume: Object, uids: Mapping[str, str]) -> str:
    holder, phase = volume["spec"]["claimRef"], (volume.get("status") or {}).get("phase")
    if str(holder.get("uid", "")) in uids:
        return f"the claim {uids[str(holder['uid'])]} has it"
    if phase not in FREE or not holder.get("uid"):
        return f"it is {phase}, and not Released: a claim has it, or would get it"
    return ""


def _handles(found: Iterable[Object]) -> dict[tuple[str, str], list[str]]:
    """Names of the volumes of each thing in the storage."""
    handles: dict[tuple[str, str], list[str]] = {}
    for one in found:
        if handle := _handle(one):
            handles.setdefault(handle, []).append(str(one["metadata"]["name"]))
    return handles


def _handle(volume: Object) -> tuple[str, str] | None:
    csi = volume["spec"].get("csi")
    return (str(csi["driver"]), str(csi["volumeHandle"])) if csi else None


def _shared(volume: Object, handles: Mapping[tuple[str, str], Sequence[str]]) -> str:
    handle = _handle(volume)
    others = (
        [name for name in handles.get(handle, ()) if name != volume["metadata"]["name"]] if handle else []
    )
    return f"{others[0]} is the same in the storage" if others else ""


def _unprovisioned(volume: Object) -> str:
    if PROVISIONER in (volume["metadata"].get("annotations") or {}):
        return ""
    return "no provisioner has made it: delete it, and in the storage, by hand"


def _like_deployment(workload: Object) -> Object:
    """With its template where a Deployment has it."""
    spec = workload["spec"]
    return {**workload, "spec": spec["jobTemplate"]["spec"]} if "jobTemplate" in spec else workload
