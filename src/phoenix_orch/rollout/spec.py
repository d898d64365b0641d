"""What a person wants of a rollout: phases, limits, checks, policy, verification.

The defaults are the operations guide's, exactly ("Deployment Phases"): 5 % for 10 min with at most
0.1 % errors and a p95 of 100 ms; 20 % for 15 min with 0.5 % and 200 ms; then 20 points more every
5 min up to 100 % with the same limits, validated all the while.

These models are the file format, the API format and the stored format at once. Lists and texts have an upper
bound: the API server of a cluster admits a rule about them only if it knows what it costs at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from phoenix_orch.kernel import patterns, placeholders
from phoenix_orch.kernel.arguments import Passable, Variable
from phoenix_orch.kernel.units import Duration, Ratio, Size

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""A DNS label, so that embedded names stay valid when a team moves to Kubernetes."""


METRIC_PATTERN = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$"
MetricName = Annotated[str, StringConstraints(pattern=METRIC_PATTERN, max_length=200)]
"""A name of the Prometheus exposition format."""
LabelText = Annotated[str, StringConstraints(max_length=200)]
Labels = Annotated[dict[LabelText, LabelText], Field(max_length=20)]
MOST = 30
"""Entries of one list at most: phases, checks, metrics, paths, patterns."""
URL_LENGTH = 1024

Weight = Annotated[float, Field(ge=0, le=100)]
"""Share of one kind of test in the evidence."""


class Model(BaseModel):
    """A frozen value with camelCase keys in files and JSON, that refuses keys it does not know."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        hide_input_in_errors=True,  # it may be an environment
    )


def distinct(names: Iterable[str], what: str) -> None:
    """Raises ValueError where a name stands twice; `what` is the plural of what is named."""
    found = list(names)
    if len(set(found)) != len(found):
        raise ValueError(f"two {what} have the same name")


class Limits(Model):
    """What a variant may do at most while it carries traffic. None: not limited."""

    error_rate: Ratio | None = None
    """Share of requests answered with 5xx."""
    latency_p95: Duration | None = Field(default=None, alias="latencyP95")
    """Time within which 95 % of the requests are answered."""
    latency_p99: Duration | None = Field(default=None, alias="latencyP99")
    """Time within which 99 % of the requests are answered."""
    cpu: Ratio | None = None
    """Share of all cores of the machine, per process, averaged over the window."""
    memory: Size | None = None
    """Resident bytes of any one process."""

    def latencies(self) -> tuple[float | None, float | None]:
        """Seconds, of p95 and p99."""
        p95, p99 = self.latency_p95, self.latency_p99
        return (p95.total_seconds() if p95 else None, p99.total_seconds() if p99 else None)


class Phase(Model):
    """One stage of the walk: either one weight for a time, or a staircase of equal steps."""

    name: Name
    """Shown wherever the phase is spoken of."""
    weight: Annotated[int, Field(ge=1, le=100)] | None = None
    """Share of traffic in per cent; higher than the phase before."""
    duration: Duration | None = None
    """How long the share is watched before the next phase."""
    step: Annotated[int, Field(ge=1, le=100)] | None = None
    """Percentage points added at a time, up to `maxWeight`."""
    every: Duration | None = None
    """How long each step of the staircase is watched."""
    max_weight: Annotated[int, Field(ge=1, le=100)] | None = None
    """The share that a staircase ends with, also where the steps do not come out even; left out: 100."""
    limits: Limits = Limits()
    """What the canary may do at most in this phase."""
    budget: Annotated[int, Field(ge=0)] | None = None
    """Requests that may be lost in the next step when this one could not be judged in full; left out:
    the policy's."""
    early_advance: bool | None = None
    """Leave this phase as soon as its limits are proven; left out: the policy's."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        fixed = self.weight is not None and self.duration is not None
        staircase = self.step is not None and self.every is not None
        any_fixed = self.weight is not None or self.duration is not None
        any_staircase = self.step is not None or self.every is not None
        if self.max_weight is not None and not staircase:
            raise ValueError("'maxWeight' is the end of a staircase; a phase of one weight has none")
        if fixed and not any_staircase:
            return self
        if staircase and not any_fixed:
            return self
        raise ValueError("a phase has either 'weight' and 'duration', or 'step' and 'every'")

    @property
    def end(self) -> int:
        """The share that the phase ends with."""
        return self.weight if self.weight is not None else self.max_weight or 100


class Step(Model):
    """One flat step of the walk, made from the phases. `index` counts from 0."""

    index: int
    phase: str
    weight: int
    duration: Duration
    limits: Limits
    budget: int | None = None
    early_advance: bool | None = None


def _known_placeholders(text: str) -> str:
    return placeholders.check(text, ("canary", "route"))


def _known_in_secret(text: str) -> str:
    return placeholders.check(text, ("canary", "route"), secret=True)


Filled = Annotated[Passable, AfterValidator(_known_placeholders)]
"""Text in which `{canary}` and `{route}` are put in, and nothing else."""
Value = Annotated[Passable, AfterValidator(_known_in_secret)]
"""The same for a value of a variable, of which nothing is repeated in errors."""


class HttpCheck(Model):
    """A request that has to succeed. The URL may hold `{canary}` or `{route}` as base address."""

    url: Annotated[Filled, Field(max_length=URL_LENGTH)]
    """Address; `{canary}` is an instance of the new revision, `{route}` what users call."""
    method: Literal["GET", "HEAD", "POST"] = "GET"
    """Method of the request."""
    status: Annotated[int, Field(ge=100, le=599)] = 200
    """Status that counts as success."""
    contains: Annotated[str, Field(max_length=1024)] | None = None
    """Text that has to be in the answer."""

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        if not url.startswith(("{canary}", "{route}", "http://", "https://")):
            raise ValueError(
                "this is no whole address; write one that begins with {canary}, {route}, http:// or https://"
            )
        return url


class CommandCheck(Model):
    """A program that has to exit with 0.

    It gets PATH, HOME, LANG, TZ and TMPDIR of Phoenix's environment, PHOENIX_SERVICE, PHOENIX_REVISION,
    PHOENIX_VERSION, PHOENIX_CANARY_URL, PHOENIX_ROUTE_URL, PHOENIX_ROUTE_HOST, and what `env` names.
    """

    command: Annotated[tuple[Filled, ...], Field(min_length=1)]
    """Program and arguments, with `{canary}` and `{route}` put in; no shell is run."""
    env: dict[Variable, Value] = Field(default_factory=dict)
    """Added to its environment; `{canary}` and `{route}` are put in."""


class Check(Model):
    """A custom health check of the canary, run by the rollback controller while it serves."""

    name: Name
    """Shown as `check/<name>` when it takes a release back."""
    http: HttpCheck | None = None
    """A request that has to succeed."""
    exec: CommandCheck | None = None
    """A program that has to exit with 0."""
    interval: Duration = timedelta(seconds=10)
    """Time between two runs."""
    timeout: Duration = timedelta(seconds=5)
    """An answer that takes longer is a failure."""
    threshold: Annotated[int, Field(ge=1, le=100)] = 3
    """Consecutive failures that take the canary back."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.http is None) == (self.exec is None):
            raise ValueError("a check has exactly one of 'http' and 'exec'")
        if self.interval <= timedelta(0) or self.timeout <= timedelta(0):
            raise ValueError("'interval' and 'timeout' have to be above 0")
        return self


class BusinessMetric(Model):
    """A counter of the user's choice on `/metrics`, judged per request (guide: business metrics)."""

    name: Name
    """Shown as `business/<name>` in verdicts."""
    counter: MetricName
    """Name of the counter on `/metrics`."""
    labels: Labels = Field(default_factory=dict)
    """Only series with these labels are counted."""
    min_per_request: Annotated[float, Field(ge=0)] | None = None
    """Fewer per request are a breach."""
    max_per_request: Annotated[float, Field(ge=0)] | None = None
    """More per request are a breach."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.min_per_request is None and self.max_per_request is None:
            raise ValueError("a business metric needs 'minPerRequest' or 'maxPerRequest'")
        return self


class PlainValue(Model):
    """A gauge on `/metrics` that is a finding by itself, such as a queue's length or a success rate."""

    name: Name
    """Shown as `value/<name>` in verdicts."""
    gauge: MetricName
    """Name of the gauge on `/metrics`."""
    labels: Labels = Field(default_factory=dict)
    """Only series with these labels are read."""
    minimum: float | None = None
    """A lower value is a breach; of several processes the lowest counts."""
    maximum: float | None = None
    """A higher value is a breach; of several processes the highest counts."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if (self.minimum is None) == (self.maximum is None):
            raise ValueError("a plain value needs one of 'minimum' and 'maximum'")
        return self


class Readings(Model):
    """How often the numbers of both variants are read, and which ones besides the usual."""

    interval: Duration = timedelta(seconds=10)
    """Time between two observations."""
    window: Duration = timedelta(minutes=1)
    """The point rule looks at this much of the past."""
    business: Annotated[tuple[BusinessMetric, ...], Field(max_length=MOST)] = ()
    """Counters of your own that are judged per request."""
    values: Annotated[tuple[PlainValue, ...], Field(max_length=MOST)] = ()
    """Gauges of your own that are judged by the minute."""

    @model_validator(mode="after")
    def _window_holds_an_interval(self) -> Self:
        if not timedelta(0) < self.interval <= self.window:
            raise ValueError("'interval' has to be above 0 and no longer than 'window'")
        distinct((metric.name for metric in self.business), "business metrics")
        distinct((value.name for value in self.values), "values")
        return self


class Evidence(Readings):
    """Where the numbers of both variants come from, and how often they are read."""

    source: Literal["router", "metrics"] = "router"
    """router: the router's own counters per variant; metrics: `/metrics` of every process."""


class CrashLoop(Model):
    """How many unexpected exits of one variant, beyond those of stable, are a crash loop."""

    exits: Annotated[int, Field(ge=1, le=100)] = 2
    """So many unexpected exits more than stable."""
    within: Duration = timedelta(minutes=5)
    """Exits longer ago do not count."""


class Shares(Model):
    """How much of the evidence each kind of test may bring: weights of a mean, brought to a sum of 1."""

    errors_against_limit: Weight = 0.25
    """Failed requests against the limit."""
    errors_against_stable: Weight = 0.25
    """Failed requests against stable in the same seconds."""
    latency_against_limit: Weight = 0.2
    """Slow requests against the limits of p95 and p99."""
    latency_against_stable: Weight = 0.3
    """The whole distribution of latency against stable in the same seconds."""
    resources: Weight = 0.1
    """CPU and memory, each."""
    business: Weight = 0.1
    """Each limit of a business metric or of a plain value."""
    abandoned_against_stable: Weight = 0.05
    """Requests that clients gave up on, against stable in the same seconds."""

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if self.errors_against_limit + self.errors_against_stable + self.latency_against_limit == 0:
            raise ValueError("some share of errors or latency has to be above 0")
        return self


class Onset(Model):
    """When a fault is expected to begin: the part of what is left that is staked on each look."""

    first: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """On the first look at the release."""
    step: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """On the first look after the weight was raised."""
    later: Annotated[float, Field(ge=0, lt=1)] = 0.005
    """On every other look."""


class Statistical(Model):
    """Parameters of the statistical gate. The defaults are explained in docs/explanation."""

    alpha: Annotated[float, Field(ge=1e-9, le=0.2)] = 0.01
    """A healthy release is taken back by evidence with at most this probability."""
    alpha_pass: Annotated[float, Field(ge=1e-9, le=0.5)] = 0.05
    """A limit counts as proven at this level; intervals are shown at it, too."""
    shares: Shares = Shares()
    """How much each kind of test counts."""
    onset: Onset = Onset()
    """When a fault is expected to begin."""
    error_odds: Annotated[float, Field(ge=1, le=100)] = 1.1
    """Odds of failure up to so many times those of stable are no regression."""
    materiality: Ratio = 0.0002
    """Nor is an error rate that is higher than stable's by fewer percentage points than this."""
    latency_tolerance: Ratio = 0.1
    """Requests that take longer than stable's by up to this share are no regression."""
    latency_floor: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Requests that take less than this part of the lowest latency limit are quick, however quick stable's
    are: connections and caches behave differently at another share of the traffic."""
    latency_odds: Annotated[float, Field(ge=1, le=100)] = 1.1
    """Odds of being slow up to so many times those of stable are no regression at any edge."""
    latency_odds_cap: Annotated[float, Field(ge=1, le=100)] = 3.0
    """Nor are they ever tolerated beyond so many times."""
    latency_odds_unknown: Annotated[float, Field(ge=1, le=100)] = 2.0
    """Tolerated where there is no history to translate `latencyTolerance` into odds."""
    abandoned_odds: Annotated[float, Field(ge=1, le=100)] = 2.0
    """Odds of clients giving up of up to so many times those of stable are no regression."""
    abandoned_materiality: Ratio = 0.01
    """Nor is a share of requests given up on that is higher than stable's by less than this."""
    business_odds: Annotated[float, Field(ge=1, le=100)] = 1.05
    """Business events up to so many times rarer or more frequent than stable's are no regression."""
    resource_tolerance: Ratio = 0.2
    """CPU and memory up to this share above stable's are no regression."""
    resource_odds: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of minutes in which a healthy variant may be above its limit of CPU, memory or a value."""
    resource_dispersion: Annotated[float, Field(ge=1, le=100)] = 2.0
    """How strongly such minutes, and business events, hang together."""
    min_bad: Annotated[int, Field(ge=1)] = 3
    """Fewer failed requests convict nobody."""
    min_looks: Annotated[int, Field(ge=1)] = 2
    """They have to come in so many intervals, unless half of 20 requests or more failed in one."""
    min_timed: Annotated[int, Field(ge=1)] = 50
    """Latency convicts nobody before so many requests."""
    min_slow: Annotated[int, Field(ge=1)] = 5
    """Nor before so many of them were slow."""
    warm_up: Duration = timedelta(seconds=30)
    """Latency of new processes is not counted for so long; errors are."""
    likely_factor: Annotated[float, Field(ge=1)] = 5.0
    """A step is passed as likely when so many times the limit can be excluded."""
    tier: Literal["proven", "likely"] = "likely"
    """What a step has to reach at its end: the limit proven, or likely kept."""
    extension: Annotated[float, Field(ge=1)] = 2.0
    """A step may be extended to so many times its duration."""
    hold: Annotated[float, Field(ge=1)] = 3.0
    """A step that still cannot be judged is held up to so many times its duration."""
    z: Annotated[float, Field(ge=0)] = 2.0
    """Standard errors that take a release back at the end of a step: what is as rare, by exact tails."""
    z_extended: Annotated[float, Field(ge=0)] = 1.0
    """As `z`, after the extension, where the limit allows three independent failures or more."""
    budget: Annotated[int, Field(ge=0)] = 25
    """Requests that may be lost in the next step when this one could not be judged in full."""
    dispersion_prior_errors: Annotated[float, Field(ge=1, le=100)] = 1.0
    """Dispersion of errors that is expected before any history is read."""
    dispersion_prior_latency: Annotated[float, Field(ge=1, le=100)] = 1.5
    """Dispersion of slow requests that is expected before any history is read."""
    dispersion_safety: Annotated[float, Field(ge=1, le=10)] = 1.5
    """What was measured in the past is taken so many times."""
    dispersion_cap: Annotated[float, Field(ge=1, le=1000)] = 30.0
    """No dispersion is taken to be larger."""
    dispersion_unknown: Annotated[float, Field(ge=1, le=100)] = 3.0
    """Taken where there is no history of at least ten windows."""
    history: Duration = timedelta(hours=6)
    """How much of stable's past is read."""
    history_window: Duration = timedelta(minutes=2)
    """Windows that the past is cut into."""


class Policy(Model):
    """What to do when the answer is not a plain yes."""

    gate: Literal["statistical", "literal"] = "statistical"
    """The rule of the verdict: `statistical` decides by evidence that may be looked at after every
    interval; `literal` is the guide's own point rule."""
    statistical: Statistical = Statistical()
    """Parameters of the statistical gate."""
    on_environment: Literal["hold", "rollback"] = "hold"
    """When stable breaks its limits as well: wait until it recovers, or take the release back."""
    on_relative_regression: Literal["rollback", "hold"] = "rollback"
    """When the canary is worse than stable and yet within its limits."""
    on_no_decision: Literal["pause", "rollback", "promote"] = "pause"
    """When a step cannot be judged after all extensions: wait for a person (until holdTimeout), take the
    release back, or go on if enough requests were seen and all values are within their limits."""
    early_advance: bool = False
    """Leave a phase before its time as soon as its limits are proven."""
    min_requests: Annotated[int, Field(ge=1)] = 10
    """Fewer canary requests than this are no evidence."""
    no_data: Literal["hold", "rollback"] = "hold"
    """Without an answer from the source of evidence, or from the canary to anybody: wait, or take the release
    back."""
    hold_timeout: Duration = timedelta(hours=1)
    """A release that had to wait this long is not waited for any longer."""
    on_hold_timeout: Literal["pause", "rollback"] = "rollback"
    """What happens then: a person is waited for, or the release is taken back."""
    stale_verdict: Duration = timedelta(minutes=2)
    """A verdict older than this is no verdict."""
    on_stale_verdict: Literal["hold", "rollback"] = "hold"
    """While the health validator is silent: wait, or take the release back."""
    on_failure: Literal["rollback", "pause"] = "rollback"
    """On a rollback verdict: take the release back, or freeze it for a person."""
    bake: Duration = timedelta(minutes=30)
    """The new version is watched so long after promotion, the old one kept warm."""
    progress_deadline: Duration = timedelta(minutes=10)
    """A canary that is not ready after this is taken back."""
    crash_loop: CrashLoop = CrashLoop()
    """How many exits are a crash loop."""


class LogPatterns(Model):
    """Regular expressions that must not appear in what stable writes after a change."""

    bad: Annotated[
        tuple[Annotated[str, Field(max_length=512), AfterValidator(patterns.checked)], ...],
        Field(max_length=MOST),
    ] = ()
    """Regular expressions of RE2; a line that matches one fails the verification."""


class CriticalPath(Model):
    """A request through the route that has to work for the service to count as well."""

    name: Name
    """Shown in the result."""
    http: HttpCheck
    """The request."""
    timeout: Duration = timedelta(seconds=5)
    """An answer that takes longer is a failure."""

    @field_validator("http")
    @classmethod
    def _through_the_route(cls, http: HttpCheck) -> HttpCheck:
        placeholders.check(http.url, ("route",))  # after a rollback there is no canary to ask
        return http


class Verify(Model):
    """The guide's verification steps, run after a promotion and after a rollback."""

    window: Duration = timedelta(minutes=1)
    """The metrics of stable are watched so long."""
    logs: LogPatterns = LogPatterns()
    """What must not appear in the logs."""
    critical_paths: Annotated[tuple[CriticalPath, ...], Field(max_length=MOST)] = ()
    """Requests through the route that have to work."""

    @model_validator(mode="after")
    def _paths_differ(self) -> Self:
        distinct((path.name for path in self.critical_paths), "critical paths")
        return self


GUIDE_PHASES: tuple[Phase, ...] = (
    Phase(
        name="initial",
        weight=5,
        duration=timedelta(minutes=10),
        limits=Limits(error_rate="0.1%", latency_p95="100ms"),
    ),
    Phase(
        name="expanded",
        weight=20,
        duration=timedelta(minutes=15),
        limits=Limits(error_rate="0.5%", latency_p95="200ms"),
    ),
    Phase(
        name="full",
        step=20,
        every=timedelta(minutes=5),
        limits=Limits(error_rate="0.5%", latency_p95="200ms"),
    ),
)


class Walk(Model):
    """The phases, and the rules of their order."""

    phases: Annotated[tuple[Phase, ...], Field(min_length=1, max_length=MOST)] = GUIDE_PHASES
    """The walk; left out: the guide's."""

    @model_validator(mode="after")
    def _walk_goes_up(self) -> Self:
        distinct((phase.name for phase in self.phases), "phases")
        weight = 0
        for phase in self.phases:
            if weight == 100 and phase.weight is None:
                raise ValueError(f"phase {phase.name!r}: the phase before it already reached 100")
            if phase.end <= weight:
                word = "weight" if phase.weight is not None else "maxWeight"
                raise ValueError(
                    f"phase {phase.name!r}: {word} {phase.end} is not above the {weight} before it"
                )
            weight = phase.end
        return self

    def steps(self) -> tuple[Step, ...]:
        """The phases as one flat walk of strictly rising weights."""
        return tuple(
            Step(
                index=index,
                phase=phase.name,
                weight=weight,
                duration=duration,
                limits=phase.limits,
                budget=phase.budget,
                early_advance=phase.early_advance,
            )
            for index, (phase, weight, duration) in enumerate(_walk(self.phases))
        )


class RolloutSpec(Walk):
    """How a new revision of one workload is taken to all users."""

    evidence: Evidence = Evidence()
    """Where the numbers come from."""
    checks: Annotated[tuple[Check, ...], Field(max_length=MOST)] = ()
    """Custom health checks of the canary."""
    policy: Policy = Policy()
    """What to do when the answer is not a plain yes."""
    verify: Verify = Verify()
    """Verification after a promotion and after a rollback."""

    @model_validator(mode="after")
    def _checks_differ(self) -> Self:
        distinct((check.name for check in self.checks), "checks")
        return self


def _walk(phases: tuple[Phase, ...]) -> Iterator[tuple[Phase, int, timedelta]]:
    weight = 0
    for phase in phases:
        if phase.weight is not None and phase.duration is not None:
            weight = phase.weight
            yield phase, weight, phase.duration
        elif phase.step is not None and phase.every is not None:
            while weight < phase.end:
                weight = min(phase.end, weight + phase.step)
                yield phase, weight, phase.every
