"""The rules of a Gateway API route as they have to be, from those there are and the wanted share. Pure.

A rule is ours when one of its backendRefs is the stable Service. Its other backends keep their shares of
the rule, and other rules stay as they are. What each of our rules was before is kept in the record; a
rule whose canary gets nothing looks exactly like that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

from pydantic import BaseModel, ConfigDict

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kube.resources import Object
from phoenix_orch.traffic.kube_record import (
    Record,
    changes,
    marks,
    named,
    open_to_chosen,
    share_of_canary_service,
    unmarks,
    wrong_weight,
)
from phoenix_orch.traffic.kube_spec import Chosen, GatewayTraffic

Ref = dict[str, Any]
Rule = dict[str, Any]

CHOSEN = "phoenix-chosen"
"""What the names of rules that Phoenix adds begin with."""
MAX_WEIGHT = 1_000_000
"""The largest weight the Gateway API takes."""


class RuleRecord(BaseModel):
    """One rule as its owner wants it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key: str
    """Its name, or what its matches come to."""
    refs: tuple[Ref, ...]
    """Its backendRefs, as without Phoenix: all for stable."""


class RouteRecord(Record):
    """What is written on a route."""

    spec: GatewayTraffic
    rules: tuple[RuleRecord, ...] = ()
    added: tuple[str, ...] = ()
    """What the rules match that Phoenix added for chosen requests."""


@dataclass(frozen=True, slots=True)
class Steered:
    """A route as it has to be."""

    rules: list[Rule]
    record: RouteRecord
    share: int

    def patch(self, found: Object) -> dict[str, Any]:
        """The changes to `found`, as a merge patch. Without a change of the rules they are not named, so
        that they stay with whoever owns them."""
        labels, annotations = marks(self.record, self.share)
        metadata = {"labels": labels, "annotations": annotations}
        rules = changes({"rules": found["spec"].get("rules")}, {"rules": self.rules})
        return {"metadata": metadata, **({"spec": rules} if rules else {})}


def steered(found: Object, record: RouteRecord, *, strict: bool = True) -> Steered:
    """The route for what `record` says of the traffic.

    `strict`: raises Invalid where no rule sends to the stable Service, or a rule does so twice, or weights
    would become too large. Otherwise, for an abort, what cannot be steered is left, but for the canary's
    part of rules that were ours.
    """
    spec, state = record.spec, record.state
    share = share_of_canary_service(state, spec.canary)
    rules: list[Rule] = []
    records: list[RuleRecord] = []
    added: list[str] = []
    chosen = spec.chosen if spec.chosen.header and open_to_chosen(state, spec.canary) else None
    for rule in _own(found, record):
        count = _stable_refs(found, rule, spec)
        if count > 1 and strict:
            raise Invalid(
                f"a rule of {named(found)} names Service {spec.service!r} {count} times",
                remedy="name it once, so that its part can be split",
            )
        if count != 1:
            rules.append(_without_canary(found, rule, record))
            continue
        refs = _original(found, rule, record)
        records.append(RuleRecord(key=key_of(rule), refs=refs))
        if chosen is not None:
            extra = _chosen_rule(rule, len(added), _stable(found, refs, spec), chosen, spec)
            added.append(_matched(extra))
            rules.append(extra)
        rules.append({**rule, "backendRefs": _weighted(found, refs, spec, share)})
    if strict and not records:
        raise Invalid(
            f"no rule of {named(found)} sends to Service {spec.service!r}",
            remedy="name the Service that its backendRefs name",
        )
    record = record.model_copy(update={"rules": tuple(records), "added": tuple(added)})
    return Steered(rules, record, share)


def live_share(found: Object, spec: GatewayTraffic) -> int:
    """What the canary's Service gets of the requests for both, in per cent; the most in any rule."""
    shares = [0]
    for rule in found["spec"].get("rules") or []:
        stable, canary = _weights(found, rule.get("backendRefs") or [], spec)
        if stable + canary > 0 and _stable_refs(found, rule, spec):
            shares.append(round(100 * canary / (stable + canary)))
    return max(shares)


def differences(found: Object, wanted: Steered) -> tuple[str, ...]:
    """What of `found` is not as it should be, in words."""
    live, told = found["spec"].get("rules") or [], []
    spec = wanted.record.spec
    if len(live) != len(wanted.rules):
        told.append(f"it has {len(live)} rules instead of {len(wanted.rules)}")
    else:
        for number, (is_now, should) in enumerate(zip(live, wanted.rules, strict=True)):
            if _plain(is_now) != _plain(should):
                have = _weights(found, is_now.get("backendRefs") or [], spec)
                want = _weights(found, should.get("backendRefs") or [], spec)
                told.append(f"rule {number} has weights {have[0]}/{have[1]} instead of {want[0]}/{want[1]}")
    return (*told, *wrong_weight(found, str(wanted.share)))


def removal(found: Object, record: RouteRecord) -> dict[str, Any]:
    """The changes that give the route back as its owner wants it, with everything for stable."""
    rules = []
    for rule in _own(found, record):
        if _stable_refs(found, rule, record.spec) == 1:
            rules.append({**rule, "backendRefs": list(_original(found, rule, record))})
        else:
            rules.append(_without_canary(found, rule, record))
    labels, annotations = unmarks(record)
    spec = changes({"rules": found["spec"].get("rules")}, {"rules": rules})
    return {"metadata": {"labels": labels, "annotations": annotations}, **({"spec": spec} if spec else {})}


def untaken(found: Object) -> str:
    """Why the data plane is not known to obey the route as it stands, by its status; empty: it does.

    Every parent has to have answered for this generation, at least one has to have accepted the route,
    and where it is accepted all its references have to be resolved: an unresolved one answers 500.
    """
    generation = found["metadata"].get("generation", 0)
    answers = (found.get("status") or {}).get("parents") or []
    accepted = False
    for wanted in found["spec"].get("parentRefs") or []:
        name = str(wanted.get("name"))
        own = [answer for answer in answers if _same_parent(answer.get("parentRef") or {}, wanted)]
        if not own:
            return f"Gateway {name!r} has not answered"
        for answer in own:
            conditions = {one["type"]: one for one in answer.get("conditions") or []}
            for kind in ("Accepted", "ResolvedRefs"):
                condition = conditions.get(kind)
                if condition is None or condition.get("observedGeneration", 0) < generation:
                    return f"Gateway {name!r} has not answered for the newest change ({kind})"
            if conditions["Accepted"]["status"] != "True":
                continue  # it sends nothing here
            accepted = True
            if conditions["ResolvedRefs"]["status"] != "True":
                told = conditions["ResolvedRefs"]
                return f"Gateway {name!r} cannot use it: {told.get('reason')}: {told.get('message', '')}"
    return "" if accepted else "no Gateway has accepted it"


def key_of(rule: Mapping[str, Any]) -> str:
    """What a rule is known by when others come and go: its name, or what it matches."""
    return str(rule["name"]) if rule.get("name") else _matched(rule)


def _matched(rule: Mapping[str, Any]) -> str:
    text = json.dumps(rule.get("matches") or [], sort_keys=True)
    return "#" + hashlib.sha256(text.encode()).hexdigest()[:12]


def _own(found: Object, record: RouteRecord) -> list[Rule]:
    """The rules without those that Phoenix added."""
    return [rule for rule in found["spec"].get("rules") or [] if not _is_added(rule, record)]


def _is_added(rule: Rule, record: RouteRecord) -> bool:
    """By its name, which older CRDs drop, or by what it matches, which is lost with the record."""
    return str(rule.get("name", "")).startswith(CHOSEN) or _matched(rule) in record.added


def _original(found: Object, rule: Rule, record: RouteRecord) -> tuple[Ref, ...]:
    """The rule's backendRefs as its owner wants them.

    Weights that give the canary nothing are a manifest somebody applied: that is what is wanted from now
    on. Others are ours, or a hand's; what was known before stays. A rule seen the first time with a share
    for the canary keeps it for stable.
    """
    live = rule.get("backendRefs") or []
    known = {one.key: one for one in record.rules}.get(key_of(rule))
    spec = record.spec
    stable, canary = _weights(found, live, spec)
    if canary == 0 or known is None or _foreign(found, live, spec) != _foreign(found, known.refs, spec):
        return tuple(_folded(found, ref, spec, stable + canary) if canary else ref for ref in live)
    return known.refs


def _folded(found: Object, ref: Ref, spec: GatewayTraffic, total: int) -> Ref:
    if _is(found, ref, spec.service):
        return {**ref, "weight": total}
    return {**ref, "weight": 0} if _is(found, ref, spec.canary) else ref


def _weighted(found: Object, refs: Sequence[Ref], spec: GatewayTraffic, share: int) -> list[Ref]:
    """`refs` with `share` per cent of stable's part for the canary, all other parts as they are."""
    stable, canary = _weights(found, refs, spec)
    both = stable + canary
    if share == 0 or both == 0:
        return list(refs)
    scale = 100 // gcd(both, 100)
    weights = [_weight(ref) * scale for ref in refs]
    if max(*weights, both * scale) > MAX_WEIGHT:
        raise Invalid(
            f"the weights of {named(found)} are too large to be split by per cent",
            remedy=f"make them smaller: {MAX_WEIGHT} is the most the Gateway API takes",
        )
    part = both * scale // 100
    wanted: list[Ref] = []
    listed = any(_is(found, ref, spec.canary) for ref in refs)
    for ref, weight in zip(refs, weights, strict=True):
        if _is(found, ref, spec.service):
            wanted.append({**ref, "weight": part * (100 - share)})
            if not listed:
                wanted.append({**ref, "name": spec.canary, "weight": part * share})
        elif _is(found, ref, spec.canary):
            wanted.append({**ref, "weight": part * share})
        else:
            wanted.append({**ref, "weight": weight})
    return wanted


def _chosen_rule(rule: Rule, number: int, stable: Ref, chosen: Chosen, spec: GatewayTraffic) -> Rule:
    """A rule before `rule` that takes the chosen requests of it to the canary."""
    header = {
        "name": chosen.header,
        "type": "Exact" if chosen.value is not None else "RegularExpression",
        "value": chosen.value or chosen.pattern,
    }
    matches = [
        {**match, "headers": [*(match.get("headers") or []), header]} for match in rule.get("matches") or [{}]
    ]
    name = {"name": f"{CHOSEN}-{number}"}
    return {**rule, **name, "matches": matches, "backendRefs": [{**stable, "name": spec.canary, "weight": 1}]}


def _stable(found: Object, refs: Sequence[Ref], spec: GatewayTraffic) -> Ref:
    return next(ref for ref in refs if _is(found, ref, spec.service))


def _without_canary(found: Object, rule: Rule, record: RouteRecord) -> Rule:
    """A rule that was ours and cannot be steered any more gives the canary nothing, if it has others."""
    refs = rule.get("backendRefs") or []
    others = [ref for ref in refs if not _is(found, ref, record.spec.canary)]
    known = any(one.key == key_of(rule) for one in record.rules)
    if not known or len(others) == len(refs) or not any(map(_weight, others)):
        return rule
    return {**rule, "backendRefs": [ref if ref in others else {**ref, "weight": 0} for ref in refs]}


def _stable_refs(found: Object, rule: Mapping[str, Any], spec: GatewayTraffic) -> int:
    return sum(_is(found, ref, spec.service) for ref in rule.get("backendRefs") or [])


def _weights(found: Object, refs: Sequence[Ref], spec: GatewayTraffic) -> tuple[int, int]:
    """Weights of stable and of the canary."""
    stable = sum(_weight(ref) for ref in refs if _is(found, ref, spec.service))
    return stable, sum(_weight(ref) for ref in refs if _is(found, ref, spec.canary))


def _foreign(found: Object, refs: Sequence[Ref], spec: GatewayTraffic) -> list[str]:
    return sorted(
        str(ref["name"])
        for ref in refs
        if not (_is(found, ref, spec.service) or _is(found, ref, spec.canary))
    )


def _is(found: Object, ref: Ref, service: str) -> bool:
    """The reference is to that Service of the route's own namespace."""
    namespace = found["metadata"].get("namespace")
    return (
        ref.get("name") == service
        and ref.get("kind", "Service") == "Service"
        and ref.get("group", "") == ""
        and ref.get("namespace", namespace) == namespace
    )


def _weight(ref: Ref) -> int:
    return int(ref.get("weight", 1))


def _plain(rule: Rule) -> Rule:
    """For comparison: with the API server's defaults written out, without the names older CRDs drop."""
    refs = [{"group": "", "kind": "Service", "weight": 1, **ref} for ref in rule.get("backendRefs") or []]
    named_by_us = str(rule.get("name", "")).startswith(CHOSEN)
    kept = {key: value for key, value in rule.items() if not (key == "name" and named_by_us)}
    return {**kept, "backendRefs": refs}


def _same_parent(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    def plain(ref: Mapping[str, Any]) -> tuple[Any, ...]:
        return (
            ref.get("group", "gateway.networking.k8s.io"),
            ref.get("kind", "Gateway"),
            ref.get("name"),
            ref.get("sectionName"),
            ref.get("port"),
        )

    namespaces = one.get("namespace"), other.get("namespace")
    return plain(one) == plain(other) and (None in namespaces or namespaces[0] == namespaces[1])
