"""What the validators of the spec say, once more for the API server. A property test holds both equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from phoenix_orch.kernel.model_shape import FORMS
from phoenix_orch.kernel.units import DURATION_PATTERN, RATIO_PATTERN
from phoenix_orch.rollout import cel
from phoenix_orch.rollout.cel import Rule
from phoenix_orch.rollout.kubernetes_spec import (
    CANARY,
    JOB_PATTERN,
    QUERY_WORDS,
    CanaryBy,
    ClusterCheck,
    ClusterEvidence,
    KubernetesRolloutSpec,
    QueryValue,
    TrafficRef,
)
from phoenix_orch.rollout.spec import (
    MOST,
    NAME_PATTERN,
    BusinessMetric,
    CriticalPath,
    HttpCheck,
    LogPatterns,
    Phase,
    PlainValue,
    Shares,
)
from phoenix_orch.rollout.status import RESTING, State

_WEIGHT = "(has({0}.weight) ? {0}.weight : has({0}.maxWeight) ? {0}.maxWeight : 100)"
"""What a phase ends with: a staircase goes up to its cap."""
_RISING = (
    f"self.map(p, {_WEIGHT.format('p')}).isSorted() && "
    f"self.all(p, self.exists_one(q, {_WEIGHT.format('p')} == {_WEIGHT.format('q')}))"
)
_CANARY_NAME = f"(has(self.canary.name) ? self.canary.name : self.workload.name + '{CANARY}')"
_SERVICE = "(has(self.traffic.service) ? self.traffic.service : self.workload.name)"
_CANARY_SERVICE = f"(has(self.traffic.canaryService) ? self.traffic.canaryService : {_CANARY_NAME})"
_CARRIERS = {"ingress": "''", "httpRoute": "''", "additional": "[]", "service": "''", "canaryService": "''"}
"""Fields of `traffic` that name objects, and what stands for one that is left out."""
_REST = cel.any_of(sorted(RESTING | {State.INITIALIZING}))
_NO_ZERO_BYTE = Rule(
    "!self.contains('\\u0000')", "no program can be given a zero byte; write text without it"
)


def _same(field: str, left_out: str) -> str:
    """Expression: a field of `traffic` is as it was."""
    now, before = (
        f"(has({one}.spec.traffic.{field}) ? {one}.spec.traffic.{field} : {left_out})"
        for one in ("self", "oldSelf")
    )
    return f"{now} == {before}"


def _one_of(first: str, second: str, message: str) -> Rule:
    return Rule(f"has(self.{first}) != has(self.{second})", message)


MODELS: Mapping[type[BaseModel], tuple[Rule, ...]] = {
    Phase: (
        Rule(
            "has(self.weight) == has(self.duration) && has(self.step) == has(self.every) && "
            "has(self.weight) != has(self.step)",
            "a phase has either 'weight' and 'duration', or 'step' and 'every'",
        ),
        Rule(
            "!has(self.maxWeight) || has(self.step)",
            "'maxWeight' is the end of a staircase; a phase of one weight has none",
        ),
    ),
    BusinessMetric: (
        Rule(
            "has(self.minPerRequest) || has(self.maxPerRequest)",
            "a business metric needs 'minPerRequest' or 'maxPerRequest'",
        ),
    ),
    PlainValue: (_one_of("minimum", "maximum", "a plain value needs one of 'minimum' and 'maximum'"),),
    QueryValue: (_one_of("minimum", "maximum", "a query needs one of 'minimum' and 'maximum'"),),
    Shares: (
        Rule(
            " || ".join(
                f"!has(self.{name}) || self.{name} > 0.0"
                for name in ("errorsAgainstLimit", "errorsAgainstStable", "latencyAgainstLimit")
            ),
            "some share of errors or latency has to be above 0",
        ),
    ),
    ClusterCheck: (
        _one_of("http", "job", "a check has exactly one of 'http' and 'job'"),
        Rule(
            f"!({cel.well_formed('self.interval', 'self.timeout')}) || "
            f"{cel.seconds('self.interval')} > 0.0 && {cel.seconds('self.timeout')} > 0.0",
            "'interval' and 'timeout' have to be above 0",
        ),
    ),
    ClusterEvidence: (
        Rule(
            f"!({cel.well_formed('self.interval', 'self.window')}) || "
            f"{cel.seconds('self.interval')} > 0.0 && "
            f"{cel.seconds('self.interval')} <= {cel.seconds('self.window')}",
            "'interval' has to be above 0 and no longer than 'window'",
        ),
        Rule(
            "!has(self.queries) || self.queries.size() == 0 || self.source == 'prometheus'",
            "'queries' need the source prometheus",
        ),
        Rule(
            "!has(self.queries) || !has(self.values) || "
            "self.queries.all(query, !self.values.exists(value, value.name == query.name))",
            "a query has the name of a value",
        ),
        Rule(
            "(has(self.queries) ? self.queries.size() : 0) + (has(self.values) ? self.values.size() : 0) "
            f"<= {MOST}",
            f"there are more than {MOST} values and queries together",
        ),
    ),
    CriticalPath: (cel.placeholders("self.http.url", ("route",)),),
    TrafficRef: (
        _one_of("ingress", "httpRoute", "traffic has exactly one of 'ingress' and 'httpRoute'"),
        Rule(
            "!has(self.additional) || self.additional.all(name, "
            "(!has(self.ingress) || name != self.ingress) && "
            "(!has(self.httpRoute) || name != self.httpRoute))",
            "'additional' has an object that is named already",
        ),
        Rule(
            "has(self.ingress) || !has(self.canaryBy) && !has(self.weightTotal)",
            "'canaryBy' and 'weightTotal' need an 'ingress'",
        ),
    ),
    CanaryBy: (
        Rule("has(self.header) || has(self.cookie)", "'canaryBy' needs 'header' or 'cookie'"),
        Rule(
            "has(self.header) || !has(self.value) && !has(self.pattern)",
            "'value' and 'pattern' say what a header has to be; name the 'header'",
        ),
        Rule(
            "!has(self.value) || !has(self.pattern)",
            "'canaryBy' has at most one of 'value' and 'pattern'",
        ),
    ),
    KubernetesRolloutSpec: (
        Rule(
            f"has(self.canary.name) || self.workload.name.size() <= {63 - len(CANARY)}",
            "the workload's name and '-canary' are longer than 63; name the canary",
        ),
        Rule(f"{_CANARY_NAME} != self.workload.name", "the canary needs another name than the workload"),
        Rule(
            f"{_SERVICE} != {_CANARY_SERVICE}",
            "the canary needs another Service than the stable variant",
        ),
    ),
}
"""Rules of a whole mapping."""

FIELDS: Mapping[tuple[type[BaseModel], str], tuple[Rule, ...]] = {
    (KubernetesRolloutSpec, "phases"): (
        Rule(
            _RISING,
            "the weights have to rise from phase to phase, and nothing comes after 100, "
            "where a staircase without 'maxWeight' ends",
        ),
    ),
    (KubernetesRolloutSpec, "workload"): (
        Rule("self == oldSelf", "the workload of a rollout cannot be changed; make another Rollout"),
    ),
    (HttpCheck, "url"): (
        Rule(
            " || ".join(
                f"self.startsWith('{start}')" for start in ("{canary}", "{route}", "http://", "https://")
            ),
            "this is no whole address; write one that begins with {canary}, {route}, http:// or https://",
        ),
        cel.placeholders("self", ("canary", "route")),
        _NO_ZERO_BYTE,
    ),
    (QueryValue, "query"): (cel.placeholders("self", QUERY_WORDS),),
}
"""Rules of one field."""

ITEMS: Mapping[tuple[type[BaseModel], str], tuple[Rule, ...]] = {
    # It fails with what is wrong with the expression when it cannot be compiled.
    (LogPatterns, "bad"): (Rule("''.matches(self) || !''.matches(self)", "no regular expression of RE2"),),
}
"""Rules of every entry of a list."""

LIST_KEYS: Mapping[tuple[type[BaseModel], str], dict[str, Any]] = {
    (TrafficRef, "additional"): {"x-kubernetes-list-type": "set"},
}
"""How several appliers share a list, where it is no list of mappings with a name."""

LENGTHS: Mapping[str, int] = {
    NAME_PATTERN: 63,
    JOB_PATTERN: 52,
}
"""What a pattern says of the length, for the API server's sums."""

ROOT = (
    Rule(
        cel.matches("self.metadata.name", NAME_PATTERN),
        f"metadata.name of a rollout has {FORMS[NAME_PATTERN]}",
    ),
    Rule(
        f"!has(oldSelf.status) || !has(oldSelf.status.state) || oldSelf.status.state in {_REST} || "
        + " && ".join(_same(*one) for one in _CARRIERS.items()),
        "the objects that `spec.traffic` names cannot be changed while a release is on its way; "
        "wait for its end, or abort it",
    ),
)


def of_text(pattern: str) -> tuple[Rule, ...]:
    """Rules of a text with this pattern: the pattern again, in words."""
    if pattern == DURATION_PATTERN:
        return (cel.duration(),)
    if pattern == RATIO_PATTERN:
        hint = "this is not a share of at most 100%; write a percentage with its sign: 0.1%, 5%"
        return (Rule(cel.matches("self", pattern), hint),)
    if pattern in FORMS:
        return (Rule(cel.matches("self", pattern), f"not a valid form; allowed: {FORMS[pattern]}"),)
    return ()
