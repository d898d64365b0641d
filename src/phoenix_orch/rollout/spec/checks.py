"""Custom health checks of the canary: a request or a program that has to succeed. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from phoenix_orch.kernel import placeholders
from phoenix_orch.kernel.arguments import Passable, Variable
from phoenix_orch.kernel.units import Duration
from phoenix_orch.rollout.spec.base import Model, Name

URL_LENGTH = 1024


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
