"""What is told to an application around a copy of its files: to rest before, and to wake after, always."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, HttpUrl, model_validator

from phoenix_orch.kernel.arguments import Passable, Variable
from phoenix_orch.kernel.units import Duration
from phoenix_orch.rollout.spec import Model

LONGEST_HOOK = timedelta(minutes=10)


class Hook(Model):
    """One thing to do: a program on this machine, or a call of the application."""

    command: tuple[Passable, ...] = ()
    """The program and its words; no shell is run. It is well when its exit status is 0."""
    env: dict[Variable, Passable] = Field(default_factory=dict)
    """Added to the environment."""
    url: HttpUrl | None = None
    """Called with POST. It is well when the answer's status is below 300."""
    timeout: Annotated[Duration, Field(gt=timedelta(0), le=LONGEST_HOOK)] = timedelta(seconds=30)
    """Time that it may take."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.command) == (self.url is not None):
            raise ValueError("a hook has either command or url")
        return self

    @property
    def name(self) -> str:
        """What it is called in messages; words and queries may hold secrets."""
        if self.url is None:
            return self.command[0]
        return f"POST {self.url.scheme}://{self.url.host}:{self.url.port}{self.url.path}"


class Quiesce(Model):
    """What brings an application to rest, and wakes it."""

    before: tuple[Hook, ...] = ()
    """In this order. One that fails ends the backup, and `after` is done."""
    after: tuple[Hook, ...] = ()
    """In this order, all of them, whatever happened: also when Phoenix was killed meanwhile, at its next
    start. They have to bear being done twice."""
