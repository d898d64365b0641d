"""What people and programs may ask of a running Phoenix: the port between API and orchestrator.

Reads change nothing. What changes something checks everything first, and with `dry_run` only tells
what it would do. Every method raises the errors of `kernel/errors.py`: NotFound for a name nobody
knows, BadState for a right word at the wrong moment, Latched for a revision that was taken back,
Retryable while the store or the router is away.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import Any, Protocol

from phoenix_orch.health_validator.observation import Observation
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.flow import Flow
from phoenix_orch.orchestrator.kept_answers import KeptAnswers
from phoenix_orch.orchestrator.views import Change, LogPage, RolloutEvent, RolloutView, ServiceView
from phoenix_orch.rollout.status import Command, CommandKind, Event, Release, Revision
from phoenix_orch.tasks.port import Tasks


class Operations(Protocol):
    @property
    def flow(self) -> Flow:
        """When releases may begin, and how they came out."""
        ...

    @property
    def tasks(self) -> Tasks:
        """Work that is kept, run and followed."""
        ...

    @property
    def answers(self) -> KeptAnswers:
        """What was answered to requests that carry an idempotency key."""
        ...

    async def info(self) -> dict[str, Any]:
        """version, pid, dataDir, speed, and components: a list of {name, state, …}."""
        ...

    async def config(self) -> PhoenixFile | None:
        """What was applied last, secrets included; None where nothing was, and in a cluster."""
        ...

    async def views(self, *, after: str = "", limit: int | None = None) -> list[RolloutView]:
        """All rollouts, by name; the first `limit` of those with a name above `after`."""
        ...

    async def view(self, name: str) -> RolloutView: ...

    async def events(self, name: str, limit: int) -> list[Event]:
        """The newest `limit` events, oldest first."""
        ...

    async def all_events(self, limit: int) -> list[RolloutEvent]:
        """The newest `limit` events of all rollouts, oldest first."""
        ...

    async def history(self, name: str, limit: int) -> list[Release]:
        """Ended releases, newest first."""
        ...

    async def revisions(self, name: str) -> list[Revision]:
        """All kept revisions by number."""
        ...

    async def observations(self, name: str, since: datetime | None, limit: int) -> list[Observation]:
        """The newest `limit` observations since `since`, oldest first."""
        ...

    async def apply(
        self, config: PhoenixFile, *, actor: str, dry_run: bool, even_if_unattainable: bool = False
    ) -> list[Change]:
        """Make the whole configuration the one that is wanted, or none of it.

        `even_if_unattainable`: also release where stable itself does not keep the limits.
        """
        ...

    async def start(
        self,
        name: str,
        *,
        version: str | None,
        env: dict[str, str] | None,
        command: tuple[str, ...] | None,
        change_cause: str,
        actor: str,
        dry_run: bool,
        even_if_unattainable: bool = False,
        override_freeze: bool = False,
    ) -> Change:
        """Release stable's template with another version, environment or command.

        `override_freeze`: no freeze holds it; `change_cause` is the reason, and has to be there.
        """
        ...

    async def undo(
        self, name: str, *, to_revision: int | None, actor: str, reason: str, dry_run: bool
    ) -> Change:
        """Go back to an earlier revision, by its number or to the one before."""
        ...

    async def command(
        self,
        name: str,
        kind: CommandKind,
        *,
        actor: str,
        reason: str,
        step: int | None = None,
        override_freeze: bool = False,
    ) -> Command:
        """Give the rollout a person's word; it is obeyed at the controller's next pass.

        `step`: the step, from 0, that a promotion is meant for; BadState when it is at another one.
        `override_freeze`: a retry or a promotion waits for no freeze.
        """
        ...

    async def services(self) -> list[ServiceView]: ...

    async def service(self, name: str) -> ServiceView: ...

    async def restart(self, name: str, *, actor: str, dry_run: bool = False) -> None:
        """Replace the instances of a service one after another; with `dry_run` only refuse what would be
        refused."""
        ...

    async def logs(self, name: str, *, instance: str | None, lines: int, after: dict[str, int]) -> LogPage:
        """The last `lines` lines, or those after the given offsets."""
        ...

    def changes(self, *, timeout: timedelta) -> AsyncGenerator[str]:
        """Names of rollouts that changed, as they change, also of removed ones; an empty name at least
        every `timeout`. A change may go untold while the store is away. Changes of instances and router
        are not told."""
        ...
