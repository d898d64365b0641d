"""The port to durable state of rollouts.

Writes of a rollout are conditional on the version that was read; status, event, history and handled
commands of one decision are written in one atomic step, so a crash leaves all of it or none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from phoenix_orch.health_validator.observation import Observation, Verdict
from phoenix_orch.kernel.errors import Conflict
from phoenix_orch.rollout.status import (
    Cause,
    Command,
    Event,
    Release,
    Revision,
    Rollout,
    Status,
    Verification,
)

RELEASES_KEPT = 200
REVISIONS_KEPT = 50
"""The newest of each rollout, and besides the revisions that it refers to."""


class RolloutStore(Protocol):
    """Durable state. Every method raises Retryable while the store is away.

    Retryable from a write says nothing about whether it took effect. Writes may be repeated: a second
    `put` or `save` of the same version conflicts, the others do what the first one did.
    Reading what is not there gives nothing; writing to a rollout that is not there raises NotFound,
    except where another error is named. Terminal: something stored cannot be read.
    """

    async def rollouts(self) -> list[Rollout]:
        """All rollouts, by name."""
        ...

    async def get(self, name: str) -> Rollout:
        """One rollout. Raises NotFound."""
        ...

    async def put(self, rollout: Rollout) -> Rollout:
        """Create (version 0) or replace what is wanted: everything but status and commands.

        Raises Conflict when the version is not the stored one.
        """
        ...

    async def remove(self, name: str) -> None:
        """Forget a rollout and everything kept with it. Idempotent."""
        ...

    async def command(self, name: str, command: Command) -> None:
        """Add a command; it stays until a `save` names it as handled. Raises NotFound.

        It raises the version, so a decision made without knowing of it conflicts. An id that waits, or
        was handled lately, is not added again.
        """
        ...

    async def save(
        self,
        rollout: Rollout,
        status: Status,
        *,
        events: Sequence[Event] = (),
        release: Release | None = None,
    ) -> Rollout:
        """Write the status if the version is still `rollout.version`; drop the commands it handled.

        Events are appended and `release` put into the history (by its number, so that writing it twice
        is writing it once) in the same step. Raises Conflict, and then nothing was written.
        """
        ...

    async def events(self, name: str, *, limit: int = 100) -> list[Event]:
        """The newest `limit` events, oldest first."""
        ...

    async def append_events(self, name: str, events: Sequence[Event]) -> None:
        """Append events that belong to no decision, such as those of the rollback controller.

        An event equal to one of the newest is there already and is not appended again.
        """
        ...

    async def history(self, name: str, *, limit: int = 50) -> list[Release]:
        """Ended releases, newest first."""
        ...

    async def add_revision(self, name: str, revision: Revision) -> Revision:
        """Keep a template under its hash. One that is known stays as it is; new ones count up from 1.

        Templates may come before the rollout. The newest 50 stay, and those the rollout refers to.
        """
        ...

    async def revisions(self, name: str) -> list[Revision]:
        """All kept revisions by number."""
        ...

    async def put_verdict(
        self, name: str, verdict: Verdict, judge_state: str, *, clock_back: bool = False
    ) -> None:
        """Publish the verdict with the judge state it came from, in one step.

        Raises Conflict where a newer one is there, by its time: somebody else has judged since.
        `clock_back`: the clock was set back, and what it left in its future gives way.
        """
        ...

    async def show_verdict(self, name: str, verdict: Verdict, *, clock_back: bool = False) -> None:
        """Make a verdict known without its evidence, where the record is kept apart from what only grows;
        elsewhere this does nothing. Raises what `put_verdict` raises."""
        ...

    async def judged(self, name: str) -> Verdict | None:
        """The last verdict, or None: as put, or without its evidence where no more than the record can be
        read."""
        ...

    async def verdict(self, name: str) -> tuple[Verdict, str] | None:
        """The last verdict and judge state, or None."""
        ...

    async def append_observation(self, name: str, observation: Observation) -> None:
        """Append to the observation log, a capped stream (the newest 20,000 of each rollout).

        At one every 10 s that is 55 hours; with 18 latency buckets a variant one takes about 0.4 kB,
        so a full log takes about 9 MB.
        """
        ...

    async def observations(
        self, name: str, *, since: datetime | None = None, limit: int = 1000
    ) -> list[Observation]:
        """The newest `limit` observations, oldest first; with `since` back to the first whose `t1` is
        before it."""
        ...

    async def put_cause(self, name: str, cause: Cause) -> None:
        """Tell why a revision was latched; the first word for a revision and release stays."""
        ...

    async def cause(self, name: str, revision: str) -> Cause | None:
        """Why `revision` was latched last, or None."""
        ...

    async def clear_cause(self, name: str, revision: str) -> None:
        """Forget the cause, at a retry."""
        ...

    async def put_verification(self, name: str, verification: Verification) -> None:
        """Keep the result of a verification until the machine has read it into the status."""
        ...

    async def verification(self, name: str) -> Verification | None:
        """The last verification result, or None."""
        ...

    def watch(self, *, timeout: timedelta) -> AsyncIterator[str]:
        """Names of rollouts that changed, as they change; an empty name at least every `timeout`.

        A hint to look now instead of later: a missed one costs time, never correctness.
        """
        ...


class PagedStore(RolloutStore, Protocol):
    """A store of which a part can be read without the rest."""

    async def page(self, *, after: str = "", limit: int | None = None) -> list[tuple[Rollout, str]]:
        """The first `limit` rollouts with a name above `after`, by name, each with a mark that changes when
        its verdict does. Raises what `rollouts` raises."""
        ...

    async def marked(self, name: str) -> tuple[Rollout, str]:
        """One rollout with its mark. Raises NotFound."""
        ...


def outdated(name: str) -> Conflict:
    """A newer verdict is there than the one to be written."""
    return Conflict(
        f"a newer verdict on rollout {name} is there: another validator has judged since",
        remedy="read it again and go on from there",
    )
