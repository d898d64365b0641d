"""What Phoenix writes on the objects that carry weights, and how it is read again. Pure.

    phoenix-orch.io/route    label       the mark: this object is steered for that route
    phoenix-orch.io/weight   label       the canary's share in per cent, for `kubectl get -L`
    phoenix-orch.io/traffic  annotation  the record: TrafficState and what it takes to undo everything
    phoenix-orch.io/abort    annotation  the revision latched last; a person may write it too

All of them and the weight change in the same conditional write.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from phoenix_orch.kernel.errors import BadState, Invalid
from phoenix_orch.kube.resources import Object
from phoenix_orch.traffic.router import TrafficState

OURS = "phoenix-orch.io/"
ROUTE = f"{OURS}route"
WEIGHT = f"{OURS}weight"
TRAFFIC = f"{OURS}traffic"
ABORT = f"{OURS}abort"
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "phoenix-orchestrator"

_ROUTE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_REVISION = re.compile(r"[^\s,]+")
FORMAT = 1


class _Format(BaseModel):
    """Of which every record is, whatever else is in it."""

    model_config = ConfigDict(extra="ignore")

    format: int = FORMAT


class Record(BaseModel):
    """The annotation `phoenix-orch.io/traffic`, as JSON."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int = FORMAT
    state: TrafficState
    marked: bool = True
    """The mark is ours: somebody else's object bore none when it was taken over."""


R = TypeVar("R", bound=Record)


def record_of(found: Object, model: type[R], *, lenient: bool = False) -> R | None:
    """What was written last, the latches of the annotation `abort` added.

    None where there is no record, or where somebody made it unreadable: then the object is like one that
    was never steered, but keeps its latches. Raises Invalid when a later release of Phoenix wrote it;
    `lenient`: that is unreadable too.
    """
    text = annotations_of(found).get(TRAFFIC)
    if text is None:
        return None
    try:
        written = _Format.model_validate_json(text).format
        if written > FORMAT and not lenient:
            raise Invalid(
                f"{named(found)} was written by a later release of Phoenix (format {written})",
                remedy="use that release, or a later one",
            )
        record = model.model_validate_json(text) if written <= FORMAT else None
    except ValidationError:
        return None
    if record is None:
        return None
    aborted = tuple(dict.fromkeys((*record.state.aborted, *latches(found))))
    return record.model_copy(update={"state": record.state.model_copy(update={"aborted": aborted})})


def latches(found: Object) -> tuple[str, ...]:
    """Revisions of the annotation `abort`, one or several, apart by spaces or commas."""
    return tuple(_REVISION.findall(annotations_of(found).get(ABORT, "")))


def bears_sign(found: Object, route: str) -> bool:
    """Phoenix was here, or was asked to come, also where the record is lost."""
    return labels_of(found).get(ROUTE) == route or TRAFFIC in annotations_of(found)


def marked(found: Iterable[Object]) -> tuple[str, ...]:
    """The routes that objects are marked for."""
    return tuple(sorted({labels_of(one)[ROUTE] for one in found if ROUTE in labels_of(one)}))


def marks(record: Record, share: int) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """Labels and annotations for `record`, whose canary's Service gets `share`; None removes one."""
    aborted = record.state.aborted
    labels: dict[str, str | None] = {ROUTE: record.state.route, WEIGHT: str(share)}
    return labels, {
        TRAFFIC: record.model_dump_json(exclude_defaults=True, exclude={"state": {"drifted"}}),
        ABORT: aborted[-1] if aborted else None,
    }


def wrong_weight(found: Object, expected: str | None) -> tuple[str, ...]:
    """How the label that shows people the weight differs, in words."""
    said = labels_of(found).get(WEIGHT)
    return () if said == expected else (f"the label {WEIGHT} is {said!r} instead of {expected!r}",)


def unmarks(record: Record) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """Labels and annotations that take every sign of us away, the mark only where it is ours."""
    labels: dict[str, str | None] = {WEIGHT: None}
    if record.marked:
        labels[ROUTE] = None
    return labels, {TRAFFIC: None, ABORT: None}


def refusal(found: Object, route: str, *, claim: bool) -> BadState | None:
    """Why `found` may not be steered for `route`; None: it may."""
    mark = labels_of(found).get(ROUTE)
    recorded = record_of(found, Record, lenient=True) if mark is None else None
    if mark == route or (mark is None and (claim or (recorded and recorded.state.route == route))):
        return None
    if mark is None:
        return BadState(
            f"{named(found)} is not Phoenix's to change: it bears no mark of route {route!r}",
            remedy=f"label it {ROUTE}={route}, or set `claim: true` for the route",
        )
    return BadState(
        f"{named(found)} belongs to route {mark!r}, not {route!r}",
        remedy="one object is steered by one route: name another, or take the label away",
    )


def check_route(route: str) -> None:
    """Raises Invalid for what cannot be the name of a route."""
    if not _ROUTE_NAME.fullmatch(route):
        raise Invalid(f"{route!r} is not the name of a route", remedy="use letters, digits and hyphens")


def share_of_canary_service(state: TrafficState, canary_service: str) -> int:
    """What the canary's Service has to get of the requests, in per cent.

    Usually what the canary gets; none without backends, as its requests would fail. Stable itself may
    stand there: after an abort during the bake the old revision's pods still serve behind the canary's
    Service (`Backend.instance` names it), and everything goes to them at once.
    """
    if stands_on(state, canary_service):
        return 100
    return state.weight if state.canary and state.canary.backends else 0


def stands_on(state: TrafficState, canary_service: str) -> bool:
    """Stable is served by the canary's Service."""
    backends = state.stable.backends
    return bool(backends) and all(backend.instance == canary_service for backend in backends)


def check_place(state: TrafficState, canary_service: str) -> None:
    """Raises BadState where two groups would have to stand behind the canary's Service."""
    if state.weight > 0 and stands_on(state, canary_service):
        raise BadState(
            f"stable is served by the canary's Service {canary_service!r}: nothing else gets a share there",
            remedy="wait until the main Service serves it again",
        )


def open_to_chosen(state: TrafficState, canary_service: str) -> bool:
    """Chosen requests may go to the canary."""
    canary = state.canary
    if canary is None or not canary.backends or canary.revision in state.aborted:
        return False
    return not stands_on(state, canary_service)


def last_hand(found: Object, manager: str) -> str:
    """Who else changed the object and when, as the API server knows it; empty: nobody since `manager`."""
    entries = [one for one in found["metadata"].get("managedFields") or [] if not one.get("subresource")]
    ours = max((str(one.get("time", "")) for one in entries if one.get("manager") == manager), default="")
    others = [one for one in entries if one.get("manager") != manager and str(one.get("time", "")) >= ours]
    if not others:
        return ""
    last = max(others, key=lambda entry: str(entry.get("time", "")))
    return f"{last.get('manager')} at {last.get('time')}"


def moment(hand: str) -> str:
    """When that was; empty: unknown."""
    return hand.rpartition(" ")[2]


def disowned(found: Object, manager: str) -> dict[str, Any] | None:
    """The changes after which `manager` owns nothing of the object, so that its owner may apply it without
    force; None: it owns nothing."""
    entries = found["metadata"].get("managedFields") or []
    left = [one for one in entries if one.get("manager") != manager or one.get("subresource")]
    if len(left) == len(entries):
        return None
    return {"metadata": {"managedFields": left or [{}]}}  # what the API server takes for an empty list


def annotations_of(found: Object) -> Mapping[str, str]:
    return found["metadata"].get("annotations") or {}


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch (RFC 7396) that makes `old` into `new`; empty when they are the same."""
    gone: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(old.get(key), Mapping):
            if inner := changes(old[key], value):
                gone[key] = inner
        elif key not in old or old[key] != value:
            gone[key] = value
    return gone


def labels_of(found: Object) -> Mapping[str, str]:
    return found["metadata"].get("labels") or {}


def named(found: Object) -> str:
    """Kind and name, for people."""
    return f"{found['kind']} {found['metadata']['name']!r}"
