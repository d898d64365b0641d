"""What a person wants of a rollout in Kubernetes: the `spec` of the custom resource.

Phases, limits, policy and verification are those of `phoenix.yaml`. What is there only on one machine is not
here: a program as a check (it would run with the rights of Phoenix), the built-in router, a path of metrics.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from phoenix_orch.kernel import placeholders
from phoenix_orch.kernel.units import Duration
from phoenix_orch.rollout.spec import (
    MOST,
    URL_LENGTH,
    Check,
    Evidence,
    HttpCheck,
    Model,
    Name,
    PlainValue,
    Policy,
    Readings,
    RolloutSpec,
    Verify,
    Walk,
    distinct,
)

CANARY = "-canary"
"""Ends the names of what Phoenix makes beside what is there."""
OBJECT_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
ObjectName = Annotated[str, StringConstraints(pattern=OBJECT_PATTERN, max_length=253 - len(CANARY))]
"""A DNS subdomain that leaves room for `-canary`."""
BASE_PATTERN = r"^https?://[^\s\x00-\x1f{}?#]+$"
HEADER_PATTERN = r"^[A-Za-z0-9_-]+$"
HeaderName = Annotated[str, StringConstraints(pattern=HEADER_PATTERN, max_length=128)]
"""The name of a header or a cookie."""
PRINTABLE_PATTERN = r"^[ -~]+$"
HeaderValue = Annotated[str, StringConstraints(pattern=PRINTABLE_PATTERN, max_length=1024)]
"""What a header may be."""
JOB_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?$"
JobName = Annotated[str, StringConstraints(pattern=JOB_PATTERN)]
"""A CronJob's name: Kubernetes allows 52 characters."""
QUERY_WORDS = ("namespace", "pods", "window")
QUERIED = "phoenix_orch:query"
"""The gauge, which nobody serves, of a value that a query answers: to the judge it is one like all others."""


def _known_in_query(text: str) -> str:
    return placeholders.check(text, QUERY_WORDS)


class WorkloadRef(Model):
    """What is released: an ordinary Deployment of the same namespace, which stays the stable variant."""

    kind: Literal["Deployment"] = "Deployment"
    """Only Deployments: a StatefulSet has no second variant beside itself."""
    name: Name
    """Name of the Deployment."""


class CanaryRef(Model):
    """The Deployment of the new revision. Where there is none, it is made from the stable one."""

    name: Name | None = None
    """Left out: the workload's name and `-canary`."""
    min_replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """Replicas at the least while the canary carries traffic; above it they follow the weight."""


class CanaryBy(Model):
    """Requests that go to the canary whatever its weight is, as long as it serves and is not latched."""

    header: HeaderName | None = None
    """Name of a header. Without `value` and `pattern`, `always` is canary and `never` stable."""
    value: HeaderValue | None = None
    """The header has to be this."""
    pattern: HeaderValue | None = None
    """The header has to match this regular expression, in the ingress controller's dialect."""
    cookie: HeaderName | None = None
    """Name of a cookie: `always` is canary, `never` stable, anything else goes by weight."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.header is None and self.cookie is None:
            raise ValueError("'canaryBy' needs 'header' or 'cookie'")
        if self.header is None and (self.value is not None or self.pattern is not None):
            raise ValueError("'value' and 'pattern' say what a header has to be; name the 'header'")
        if self.value is not None and self.pattern is not None:
            raise ValueError("'canaryBy' has at most one of 'value' and 'pattern'")
        return self


class TrafficRef(Model):
    """The object that carries the weight. Exactly one kind of router."""

    ingress: ObjectName | None = None
    """An Ingress; a canary Ingress with NGINX's annotations is made beside it."""
    http_route: ObjectName | None = None
    """An HTTPRoute of the Gateway API; the weights of its backends are written."""
    additional: Annotated[tuple[ObjectName, ...], Field(max_length=MOST)] = ()
    """Further objects of the same kind that carry the same weight."""
    service: Name | None = None
    """The Service of the stable variant; left out: the workload's name."""
    canary_service: Name | None = None
    """The Service of the canary; left out: the canary's name. Made where there is none."""
    url: Annotated[str, StringConstraints(pattern=BASE_PATTERN, max_length=URL_LENGTH)] | None = None
    """Base address that users call, as `{route}` in checks and critical paths; left out: what the Ingress
    and the address in its status say, where that is plain."""
    canary_by: CanaryBy | None = None
    """Requests of testers, one tenant or one region that go to the canary. Only with an Ingress."""
    weight_total: Annotated[int, Field(ge=100, le=1_000_000, multiple_of=100)] | None = None
    """What the canary's weight is counted in, a multiple of 100; left out: 100. Only with an Ingress."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.ingress is None) == (self.http_route is None):
            raise ValueError("traffic has exactly one of 'ingress' and 'httpRoute'")
        names = [name for name in (self.ingress, self.http_route, *self.additional) if name is not None]
        if len(set(names)) != len(names):
            raise ValueError("'additional' has an object that is named already")
        if self.ingress is None and (self.canary_by is not None or self.weight_total is not None):
            raise ValueError("'canaryBy' and 'weightTotal' need an 'ingress'")
        return self


class QueryValue(Model):
    """A number of your own from PromQL that is a finding by itself."""

    name: Name
    """Shown as `value/<name>` in verdicts."""
    query: Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_known_in_query)]
    """PromQL that gives one number. `{namespace}` is the namespace, `{pods}` a regular expression for the
    pods of the variant, `{window}` the time to look back."""
    minimum: float | None = None
    """A lower value is a breach."""
    maximum: float | None = None
    """A higher value is a breach."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if (self.minimum is None) == (self.maximum is None):
            raise ValueError("a query needs one of 'minimum' and 'maximum'")
        return self


class ClusterEvidence(Readings):
    """Where the numbers of both variants come from, and how often they are read."""

    source: Literal["prometheus", "pods"] = "prometheus"
    """prometheus: one of Phoenix's Prometheus endpoints; pods: `/metrics` of every pod, with none."""
    prometheus: Name = "default"
    """Name of the endpoint in Phoenix's own configuration; addresses are its operator's to choose."""
    requests: Literal["auto", "ingress-nginx", "traefik", "envoy-gateway", "application"] = "auto"
    """Whose counters of requests and latency count: a router's, or the application's `requests_total` and
    `request_duration_seconds`. auto: the router's that is found."""
    queries: Annotated[tuple[QueryValue, ...], Field(max_length=MOST)] = ()
    """Numbers of your own from PromQL, judged by the minute."""

    @model_validator(mode="after")
    def _queries_differ(self) -> Self:
        distinct((query.name for query in self.queries), "queries")
        if self.queries and self.source != "prometheus":
            raise ValueError("'queries' need the source prometheus")
        if {query.name for query in self.queries} & {value.name for value in self.values}:
            raise ValueError("a query has the name of a value")
        if len(self.queries) + len(self.values) > MOST:
            raise ValueError(f"there are more than {MOST} values and queries together")
        return self

    def all_values(self) -> tuple[PlainValue, ...]:
        """Everything that is judged by the minute: gauges, and what queries answer."""
        queried = (
            PlainValue(name=query.name, gauge=QUERIED, minimum=query.minimum, maximum=query.maximum)
            for query in self.queries
        )
        return (*self.values, *queried)


class JobCheck(Model):
    """A Job that has to succeed, made from the template of a CronJob of the same namespace."""

    cron_job: JobName
    """Name of the CronJob; it may be suspended. Its own rights and image are what runs."""


class ClusterCheck(Model):
    """A custom health check of the canary, run by the rollback controller while it serves."""

    name: Name
    """Shown as `check/<name>` when it takes a release back."""
    http: HttpCheck | None = None
    """A request that has to succeed."""
    job: JobCheck | None = None
    """A Job that has to succeed."""
    interval: Duration = timedelta(seconds=10)
    """Time between two runs."""
    timeout: Duration = timedelta(seconds=5)
    """An answer that takes longer is a failure."""
    threshold: Annotated[int, Field(ge=1, le=100)] = 3
    """Consecutive failures that take the canary back."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.http is None) == (self.job is None):
            raise ValueError("a check has exactly one of 'http' and 'job'")
        if self.interval <= timedelta(0) or self.timeout <= timedelta(0):
            raise ValueError("'interval' and 'timeout' have to be above 0")
        return self


class ClusterPolicy(Policy):
    """What to do when the answer is not a plain yes."""

    promotion: Literal["phoenix", "external"] = "phoenix"
    """phoenix: the stable Deployment's template is patched; external: somebody else, such as a Git tool,
    changes it, and that is waited for."""


class KubernetesRolloutSpec(Walk):
    """How a new revision of one Deployment is taken to all users."""

    workload: WorkloadRef
    """What is released. It cannot be changed: another workload is another Rollout."""
    canary: CanaryRef = CanaryRef()
    """Where the new revision runs."""
    traffic: TrafficRef
    """What carries the weight."""
    evidence: ClusterEvidence = ClusterEvidence()
    """Where the numbers come from."""
    checks: Annotated[tuple[ClusterCheck, ...], Field(max_length=MOST)] = ()
    """Custom health checks of the canary."""
    policy: ClusterPolicy = ClusterPolicy()
    """What to do when the answer is not a plain yes."""
    verify: Verify = Verify()
    """Verification after a promotion and after a rollback."""

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        distinct((check.name for check in self.checks), "checks")
        if self.canary.name is None and len(self.workload.name) > 63 - len(CANARY):
            raise ValueError("the workload's name and '-canary' are longer than 63; name the canary")
        if self.canary_name == self.workload.name:
            raise ValueError("the canary needs another name than the workload")
        if self.service == self.canary_service:
            raise ValueError("the canary needs another Service than the stable variant")
        return self

    @property
    def canary_name(self) -> str:
        """Name of the canary's Deployment."""
        return self.canary.name or self.workload.name + CANARY

    @property
    def service(self) -> str:
        """Name of stable's Service."""
        return self.traffic.service or self.workload.name

    @property
    def canary_service(self) -> str:
        """Name of the canary's Service."""
        return self.traffic.canary_service or self.canary_name

    def common(self) -> RolloutSpec:
        """What the rollout machine and the judge read of it; jobs are their adapter's matter."""
        readings = {name: getattr(self.evidence, name) for name in Readings.model_fields}
        return RolloutSpec(
            phases=self.phases,
            evidence=Evidence.model_construct(**{**readings, "values": self.evidence.all_values()}),
            checks=tuple(
                Check(
                    name=check.name,
                    http=check.http,
                    interval=check.interval,
                    timeout=check.timeout,
                    threshold=check.threshold,
                )
                for check in self.checks
                if check.http is not None
            ),
            policy=Policy.model_construct(
                **{name: getattr(self.policy, name) for name in Policy.model_fields}
            ),
            verify=self.verify,
        )


class Metadata(Model, extra="ignore"):
    """What Phoenix reads of an object's metadata."""

    name: Name
    """Also the value of a label of what Phoenix makes, so at most 63 characters."""


class RolloutManifest(Model, extra="ignore"):
    """The custom resource as a person writes it: `status` and the rest of `metadata` are not theirs."""

    api_version: Literal["phoenix-orch.io/v1alpha1"]
    kind: Literal["Rollout"]
    metadata: Metadata
    spec: KubernetesRolloutSpec


def read(manifest: Mapping[str, Any]) -> RolloutManifest:
    """A manifest with the API server's strictness: text is no number. Raises pydantic's ValidationError.

    A null is left to the API server, which takes it out where there is a default and refuses it elsewhere.
    """
    return RolloutManifest.model_validate_json(json.dumps(manifest), strict=True)
