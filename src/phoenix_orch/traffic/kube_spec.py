"""What a person says about the traffic of one route in a cluster.

The object of each route is found by its mark, the label `phoenix-orch.io/route`; what is said here
matters when it is made or taken over, and whenever weights are written.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from phoenix_orch.rollout.spec import Model, Name

ObjectName = Annotated[
    str,
    StringConstraints(
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", max_length=253
    ),
]
"""A DNS subdomain, as Ingresses and routes are named."""
Token = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")]
"""The name of a header or cookie."""


class Chosen(Model):
    """Requests that go to the canary whatever its weight is: testers, one tenant, one region.

    They stay with stable while the canary has nothing that serves, and once its revision is latched.
    """

    header: Token | None = None
    value: str | None = Field(default=None, min_length=1, max_length=4096)
    """The header has to be this; without value and pattern: `always` is canary, `never` stable."""
    pattern: str | None = Field(default=None, min_length=1, max_length=4096)
    """The header has to match this regular expression, in the router's dialect."""
    cookie: Token | None = None
    """`always` is canary, `never` stable, anything else goes by weight."""

    @model_validator(mode="after")
    def _one_way(self) -> Chosen:
        if self.header is None and (self.value is not None or self.pattern is not None):
            raise ValueError("value and pattern say what a header has to be: name the header")
        if self.value is not None and self.pattern is not None:
            raise ValueError("give value or pattern, not both: the router would ignore the pattern")
        return self


class Owner(Model):
    """An object with which what Phoenix made for it goes, by the cluster's garbage collection."""

    api_version: str
    kind: str
    name: str
    uid: str

    def reference(self) -> dict[str, object]:
        """As it stands among `metadata.ownerReferences`."""
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "name": self.name,
            "uid": self.uid,
            "blockOwnerDeletion": False,
        }


class IngressTraffic(Model):
    """A route behind one or several Ingresses, each split by a second one with NGINX's canary annotations."""

    ingress: ObjectName
    """The main Ingress. It is only read."""
    additional: Annotated[tuple[ObjectName, ...], Field(max_length=30)] = ()
    """Further main Ingresses of the same Service; `NAME-canary` carries the weight of each."""
    service: Name | None = None
    """Its stable Service; may be left out where the Ingress names only one."""
    canary_service: Name | None = None
    """The Service of the canary's pods, with the same ports; `SERVICE-canary` where not given."""
    canary_ingress: ObjectName | None = None
    """The Ingress that carries the weight; `INGRESS-canary` where not given."""
    weight_total: Annotated[int, Field(ge=100, le=1_000_000, multiple_of=100)] = 100
    """What the weight is counted in: 1000 makes 5 % a canary-weight of 50."""
    chosen: Chosen = Chosen()
    claim: bool = False
    """Take over a canary Ingress that bears no mark of Phoenix."""
    owner: Owner | None = None
    """A canary Ingress that Phoenix made goes with it, also with Phoenix gone: stable has all traffic."""

    @property
    def carrier(self) -> str:
        return self.canary_ingress or f"{self.ingress}-canary"

    @property
    def mains(self) -> dict[str, str]:
        """The main Ingress of each canary Ingress, both by name."""
        return {self.carrier: self.ingress, **{f"{name}-canary": name for name in self.additional}}


class RouteRef(Model):
    """One route of the Gateway API."""

    kind: Literal["HTTPRoute", "GRPCRoute"] = "HTTPRoute"
    name: ObjectName


class GatewayTraffic(Model):
    """A route that is split by the weights of backendRefs, in one or several routes of the Gateway API."""

    routes: Annotated[tuple[RouteRef, ...], Field(min_length=1, max_length=16)]
    service: Name
    """The stable Service. Rules that send to it are steered, all others left alone."""
    canary_service: Name | None = None
    """The Service of the canary's pods; `SERVICE-canary` where not given."""
    chosen: Chosen = Chosen()
    claim: bool = False
    """Take over routes that bear no mark of Phoenix."""

    @property
    def canary(self) -> str:
        return self.canary_service or f"{self.service}-canary"

    @model_validator(mode="after")
    def _can_be_said(self) -> GatewayTraffic:
        if self.chosen.cookie is not None:
            raise ValueError("the Gateway API matches no cookies: choose by header")
        if self.chosen.header is not None and self.chosen.value is None and self.chosen.pattern is None:
            raise ValueError("the Gateway API needs the header's value or pattern")
        if len({(ref.kind, ref.name) for ref in self.routes}) < len(self.routes):
            raise ValueError("a route is named twice")
        return self
