"""How stable is verified after a promotion and after a rollback. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from phoenix_orch.kernel import patterns, placeholders
from phoenix_orch.kernel.units import Duration
from phoenix_orch.rollout.spec.base import MOST, Model, Name, distinct
from phoenix_orch.rollout.spec.checks import HttpCheck


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
