"""What phoenix.yaml says of a task that is a program."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, model_validator

from phoenix_orch.kernel.arguments import Passable, Variable
from phoenix_orch.kernel.units import Duration
from phoenix_orch.rollout.spec import Model
from phoenix_orch.tasks.schedule import Cron, Interval, Schedule, Timing
from phoenix_orch.tasks.spec import LONGEST_CLEANUP, LONGEST_DEADLINE, LONGEST_KEEP, Retries
from phoenix_orch.workload.spec import Command


class CommandTask(Model):
    """One entry of `tasks`: a program that is run by hand, or again and again."""

    command: Command
    """The program and its words; no shell is run."""
    env: dict[Variable, Passable] = Field(default_factory=dict)
    """Added to the environment."""
    cwd: Passable = "."
    """Working directory; relative to the file that names the task."""
    schedule: Cron | None = None
    """When it runs, as in crontab(5), in UTC; left out: by hand, or `every`."""
    every: Interval | None = None
    """How often it runs."""
    jitter: Duration = timedelta(0)
    """Each run begins late by a time up to this."""
    deadline: Annotated[Duration, Field(gt=timedelta(0), le=LONGEST_DEADLINE)] = timedelta(hours=1)
    """Time that one attempt may take."""
    cleanup: Annotated[Duration, Field(le=LONGEST_CLEANUP)] = timedelta(seconds=10)
    """Time between SIGTERM and SIGKILL."""
    retries: Retries = Retries()
    """What happens when it fails."""
    keep: Annotated[Duration, Field(gt=timedelta(0), le=LONGEST_KEEP)] = timedelta(days=7)
    """How long record and log of a run are kept."""

    @model_validator(mode="after")
    def _one_timing(self) -> Self:
        if self.schedule is not None and self.every is not None:
            raise ValueError("a task has either schedule or every")
        return self

    def timing(self) -> Timing | None:
        if self.schedule is None and self.every is None:
            return None
        return Timing(cron=self.schedule, every=self.every, jitter=self.jitter)


def schedules_of(declared: Mapping[str, CommandTask]) -> dict[str, Schedule]:
    timings = {name: one.timing() for name, one in declared.items()}
    return {
        name: Schedule(name=name, kind=name, timing=timing)
        for name, timing in timings.items()
        if timing is not None
    }
