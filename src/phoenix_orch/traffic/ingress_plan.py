"""The canary Ingress as it has to be, from the main one and the wanted traffic. Pure.

ingress-nginx and Traefik merge an Ingress annotated `canary: "true"` into the one with the same hosts,
paths and path types. Objects are plain dicts, as the API server gives them; nothing here changes one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from phoenix_orch.kernel.errors import BadState, Invalid
from phoenix_orch.kube.resources import Object
from phoenix_orch.traffic.kube_record import (
    MANAGED_BY,
    MANAGER,
    OURS,
    ROUTE,
    TRAFFIC,
    WEIGHT,
    Record,
    annotations_of,
    changes,
    labels_of,
    marks,
    named,
    open_to_chosen,
    record_of,
    share_of_canary_service,
    unmarks,
    wrong_weight,
)
from phoenix_orch.traffic.kube_spec import IngressTraffic
from phoenix_orch.traffic.router import TrafficState

NGINX = "nginx.ingress.kubernetes.io/"
CANARY = f"{NGINX}canary"
CANARY_WEIGHT = f"{NGINX}canary-weight"
WEIGHT_TOTAL = f"{NGINX}canary-weight-total"
BY_HEADER = f"{NGINX}canary-by-header"
BY_HEADER_VALUE = f"{NGINX}canary-by-header-value"
BY_HEADER_PATTERN = f"{NGINX}canary-by-header-pattern"
BY_COOKIE = f"{NGINX}canary-by-cookie"
STICKINESS = f"{NGINX}affinity-canary-behavior"
"""Without `legacy`, clients whose cookie names a canary's pod stay there, also at weight 0."""
STEERING = (CANARY, CANARY_WEIGHT, WEIGHT_TOTAL, BY_HEADER, BY_HEADER_VALUE, BY_HEADER_PATTERN, BY_COOKIE)
"""Annotations that are ours alone on a canary Ingress: one that is not wanted is removed."""
CLASS = "kubernetes.io/ingress.class"
_NOT_COPIED = (
    OURS,
    "acme.cert-manager.io/",
    "argocd.argoproj.io/",
    "cert-manager.io/",
    "external-dns.alpha.kubernetes.io/",
    "fluxcd.io/",
    "kubectl.kubernetes.io/",
    "meta.helm.sh/",
)
"""Other tools would take the copy for an object of theirs, or ask for its certificate a second time."""


class IngressRecord(Record):
    """What is written on a canary Ingress."""

    made: bool = False
    """Phoenix made it, and deletes it in the end."""
    copied: tuple[str, ...] = ()
    """Annotations of the main Ingress that were copied, to be removed where the main one drops them."""
    stickiness: str | None = None
    """What was said of it when the Ingress was taken over."""
    spec: IngressTraffic
    canary_service: str
    """So that an abort needs to know nothing else."""
    left: tuple[str, ...] = ()
    """Canary Ingresses of main ones that are named no more, which could not be given up yet."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What has to stand on the canary Ingress. A value None: it must not stand there."""

    labels: Mapping[str, str | None]
    annotations: Mapping[str, str | None]
    spec: Mapping[str, Any] | None
    """None: left as it is, because the main Ingress is not there to derive it from."""
    owners: tuple[Mapping[str, Any], ...] | None = None
    """None: left as they are."""

    def patch(self, found: Object) -> dict[str, Any]:
        """The changes to `found`, as a merge patch."""
        metadata = {"labels": dict(self.labels), "annotations": dict(self.annotations), **self._owners()}
        spec = changes(found["spec"], self.spec) if self.spec is not None else {}
        return {"metadata": metadata, **({"spec": spec} if spec else {})}

    def new(self, namespace: str, name: str) -> Object:
        """As an object that does not exist yet."""
        labels = {MANAGED_BY: MANAGER, **_present(self.labels)}
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": labels,
                "annotations": _present(self.annotations),
                **self._owners(),
            },
            "spec": deepcopy(dict(self.spec or {})),
        }

    def _owners(self) -> dict[str, Any]:
        return {} if self.owners is None else {"ownerReferences": [dict(one) for one in self.owners]}


def stable_service(main: Object, spec: IngressTraffic) -> str:
    """The Service that the main Ingress sends to. Raises Invalid where that is not plain."""
    if annotations_of(main).get(CANARY) == "true":
        raise Invalid(
            f"{named(main)} is a canary Ingress itself",
            remedy="name the Ingress that users' requests normally take",
        )
    found = sorted(
        {backend["service"]["name"] for backend in _backends(main["spec"]) if "service" in backend}
    )
    if spec.service is not None:
        if spec.service not in found:
            raise Invalid(
                f"{named(main)} sends nothing to Service {spec.service!r}",
                remedy=f"it sends to {', '.join(found) or 'no Service'}",
            )
        return str(spec.service)
    if len(found) != 1:
        raise Invalid(
            f"{named(main)} sends to {len(found)} Services: {', '.join(found) or 'none'}",
            remedy="say which one is released: `service: NAME`",
        )
    return str(found[0])


def is_carrier(found: Object) -> bool:
    """It is a canary Ingress, or was one. The mark alone makes a main Ingress none: with it all requests
    would be lost."""
    said = annotations_of(found)
    return said.get(CANARY) == "true" or TRAFFIC in said


def canary_service(spec: IngressTraffic, stable: str) -> str:
    return spec.canary_service or f"{stable}-canary"


def wanted(main: Object | None, found: Object | None, record: IngressRecord) -> Wanted:
    """The canary Ingress for `record`. `main` None: not known. `found`: the canary Ingress as it stands.

    Keeps everything of the main Ingress that leads to the stable Service (hosts, paths, path types,
    class, TLS, annotations of others), and on `found` whatever is not ours.
    """
    state, spec, canary = record.state, record.spec, record.canary_service
    share = share_of_canary_service(state, canary)
    before = record_of(found, IngressRecord, lenient=True) if found is not None else None
    copied = _copied(main) if main is not None else _still_copied(found, before)
    record = record.model_copy(update={"copied": tuple(sorted(copied))})
    labels, marked = marks(record, share)
    steering: dict[str, str | None] = dict.fromkeys(STEERING)
    steering |= _steering(spec, share, chosen=open_to_chosen(state, canary))
    steering[STICKINESS] = "legacy" if share == 0 else copied.get(STICKINESS, record.stickiness)
    dropped = dict.fromkeys(set(before.copied if before else ()) - set(copied))
    rules = _spec(main, stable_service(main, spec), canary) if main is not None else None
    return Wanted(labels, {**dropped, **copied, **steering, **marked}, rules, _owned(found, record))


def _owned(found: Object | None, record: IngressRecord) -> tuple[Mapping[str, Any], ...] | None:
    """Its owners with ours, where Phoenix made it; None: they need no change."""
    owner = record.spec.owner
    if owner is None or not record.made:
        return None
    present = tuple(found["metadata"].get("ownerReferences") or ()) if found is not None else ()
    if any(one.get("uid") == owner.uid for one in present):
        return None
    kept = (one for one in present if one.get("kind") != owner.kind or one.get("name") != owner.name)
    return (*kept, owner.reference())


def emergency(revision: str) -> dict[str, Any]:
    """The changes that take all traffic away from a canary Ingress whose record cannot be read, or is
    lost, and latch `revision`: an abort needs no more than the object (rule R2)."""
    steering = {key: None for key in STEERING if key != CANARY}
    return {
        "metadata": {
            "annotations": {
                **steering,
                CANARY_WEIGHT: "0",
                STICKINESS: "legacy",
                f"{OURS}abort": revision,
            },
            "labels": {f"{OURS}weight": "0"},
        }
    }


def live_share(found: Object) -> int:
    """What the canary Ingress as it stands gives to its Service, in per cent, as ingress-nginx reads it:
    a weight that cannot be read is 0, a total below 100 is 100."""
    said = annotations_of(found)
    if said.get(CANARY) != "true":
        return 0
    weight, total = _number(said.get(CANARY_WEIGHT)), max(100, _number(said.get(WEIGHT_TOTAL)))
    return round(min(weight, total) * 100 / total)


def differences(found: Object, expected: Wanted) -> tuple[str, ...]:
    """What of `found` the data plane obeys and is not as it should be, in words."""
    said, told = annotations_of(found), []
    for key, value in sorted(expected.annotations.items()):
        if key.startswith(OURS) or said.get(key) == value:
            continue
        name = key.removeprefix(NGINX)
        told.append(f"{name} is {said[key]!r}" if key in said else f"{name} is missing")
    told += wrong_weight(found, expected.labels.get(WEIGHT))
    if expected.spec is not None and found["spec"] != expected.spec:
        told.append("its rules, class or TLS differ from the main Ingress")
    return tuple(told)


def conflict(
    main: Object, name: str, record: IngressRecord, wanted: Wanted, others: Iterable[Object]
) -> BadState | None:
    """Why the canary Ingress `name` must not carry traffic beside the `others` of the namespace.

    The router takes one canary for each rule, and a Service that is main somewhere is no canary's.
    """
    canary = record.canary_service
    mine = set(_requests(wanted.spec or {}))
    for other in others:
        if other["metadata"]["name"] in {name, main["metadata"]["name"]} or _class(other) != _class(main):
            continue
        if annotations_of(other).get(CANARY) == "true":
            if both := sorted(mine & set(_requests(other["spec"]))):
                host, path = both[0]
                return BadState(
                    f"{named(other)} is a canary of {host or 'any host'} {path} already",
                    remedy="the router takes one canary for each rule: remove that Ingress, or name it as"
                    " canaryIngress and claim it",
                )
        elif any(backend.get("service", {}).get("name") == canary for backend in _backends(other["spec"])):
            return BadState(
                f"Service {canary!r} serves {named(other)} as its main Service",
                remedy=f"give the canary of {named(main)} a Service of its own",
            )
    return None


def rivalry(found: Object) -> frozenset[str]:
    """What an Ingress may be in the way of others with: its hosts and its Services."""
    hosts = {f"host {host}" for host, _ in _requests(found["spec"])}
    services = {f"service {one.get('service', {}).get('name')}" for one in _backends(found["spec"])}
    return frozenset(hosts | services)


def rivals(record: IngressRecord, wanted: Wanted) -> frozenset[str]:
    """The words of `rivalry` of all that `conflict` may name."""
    hosts = {f"host {host}" for host, _ in _requests(wanted.spec or {})}
    return frozenset({*hosts, f"service {record.canary_service}"})


def removal(found: Object, record: IngressRecord) -> dict[str, Any] | None:
    """The changes that leave a taken-over canary Ingress without a sign of us and without traffic; None:
    Phoenix made it, and it is to be deleted. The main Ingress is as it always was."""
    if record.made:
        return None
    labels, marked = unmarks(record)
    steering: dict[str, str | None] = dict.fromkeys(STEERING)
    steering |= {CANARY: "true", CANARY_WEIGHT: "0", STICKINESS: record.stickiness}
    dropped = {key: None for key in record.copied if key in annotations_of(found)}
    return {"metadata": {"labels": labels, "annotations": {**dropped, **steering, **marked}}}


def adopted(
    state: TrafficState, spec: IngressTraffic, canary_service: str, found: Object | None
) -> IngressRecord:
    """The first record on an Ingress: `found` is taken over, None is made."""
    if found is None:
        return IngressRecord(state=state, spec=spec, canary_service=canary_service, made=True)
    return IngressRecord(
        state=state,
        spec=spec,
        canary_service=canary_service,
        marked=ROUTE not in labels_of(found),
        made=labels_of(found).get(MANAGED_BY) == MANAGER,
        stickiness=annotations_of(found).get(STICKINESS),
    )


def _steering(spec: IngressTraffic, share: int, *, chosen: bool) -> dict[str, str | None]:
    wanted: dict[str, str | None] = {CANARY: "true", CANARY_WEIGHT: str(share * spec.weight_total // 100)}
    if spec.weight_total != 100:
        wanted[WEIGHT_TOTAL] = str(spec.weight_total)
    if chosen:
        how = spec.chosen
        wanted |= {
            BY_HEADER: how.header,
            BY_HEADER_VALUE: how.value,
            BY_HEADER_PATTERN: how.pattern,
            BY_COOKIE: how.cookie,
        }
    return wanted


def _copied(main: Object) -> dict[str, str]:
    """Annotations of the main Ingress that belong on its canary as well."""
    return {
        key: value
        for key, value in annotations_of(main).items()
        if key not in STEERING and not any(part in key.partition("/")[0] + "/" for part in _NOT_COPIED)
    }


def _still_copied(found: Object | None, before: IngressRecord | None) -> dict[str, str]:
    """What was copied when the main Ingress was known."""
    if found is None or before is None:
        return {}
    return {key: annotations_of(found)[key] for key in before.copied if key in annotations_of(found)}


def _spec(main: Object, stable: str, canary: str) -> dict[str, Any]:
    """The main Ingress' spec with the rules that lead to `stable`, leading to `canary`."""
    spec = deepcopy(main["spec"])
    spec["rules"] = [
        {**rule, "http": {**rule["http"], "paths": paths}}
        for rule in spec.get("rules") or []
        if (paths := [_moved(path, canary) for path in _paths(rule) if _service(path["backend"]) == stable])
    ]
    if not spec["rules"]:
        del spec["rules"]
    if "defaultBackend" in spec:
        if _service(spec["defaultBackend"]) == stable:
            spec["defaultBackend"]["service"]["name"] = canary
        else:
            del spec["defaultBackend"]
    return dict(spec)


def _moved(path: dict[str, Any], canary: str) -> dict[str, Any]:
    service = {**path["backend"]["service"], "name": canary}
    return {**path, "backend": {**path["backend"], "service": service}}


def _paths(rule: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list((rule.get("http") or {}).get("paths") or [])


def _backends(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "defaultBackend" in spec:
        yield spec["defaultBackend"]
    for rule in spec.get("rules") or []:
        for path in _paths(rule):
            yield path["backend"]


def _service(backend: Mapping[str, Any]) -> str | None:
    return (backend.get("service") or {}).get("name")


def _requests(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Host and path of everything an Ingress takes."""
    if "defaultBackend" in spec:
        yield "", "/"
    for rule in spec.get("rules") or []:
        for path in _paths(rule):
            yield rule.get("host", ""), path.get("path", "/")


def _class(found: Object) -> str:
    return str(found["spec"].get("ingressClassName") or annotations_of(found).get(CLASS, ""))


def _number(text: str | None) -> int:
    try:
        return max(0, int(text or "0"))
    except ValueError:
        return 0


def _present(values: Mapping[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in values.items() if value is not None}
