"""`Client`: every call of the API as a method, every problem document as the error it was made from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from phoenix_orch.client.audit_calls import AuditCalls
from phoenix_orch.client.calling import PREFIX, quoted
from phoenix_orch.client.events import StreamEvent
from phoenix_orch.client.following import follow
from phoenix_orch.client.identity_calls import IdentityCalls
from phoenix_orch.client.places import AddressPlace, Place, SocketPlace
from phoenix_orch.client.task_calls import TaskCalls
from phoenix_orch.health_validator.observation import Observation, Verdict
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.units import format_duration
from phoenix_orch.orchestrator.flow_views import FreezeView, GroupView, OverrideView
from phoenix_orch.orchestrator.views import Change, Identity, LogPage, RolloutEvent, RolloutView, ServiceView
from phoenix_orch.rollout.dora import DoraReport
from phoenix_orch.rollout.freezes import UnderWay
from phoenix_orch.rollout.status import Command, CommandKind, Event, Release, Revision

if TYPE_CHECKING:
    from phoenix_orch.orchestrator.config import PhoenixFile  # half a second

T = TypeVar("T")

URL_VARIABLE = "PHOENIX_URL"
TOKEN_VARIABLE = "PHOENIX_TOKEN"  # noqa: S105 - its name
TIMEOUT = 10.0
"""Seconds for one answer."""


@dataclass(frozen=True, slots=True)
class AppliedConfig:
    """What was applied last."""

    version: str
    """For the `expect` of an apply."""
    config: dict[str, Any]
    """As in phoenix.yaml."""


class Client(TaskCalls, AuditCalls, IdentityCalls):
    """Talks to the Phoenix that runs on `data_dir`, or to the one at `url`. Close it, or use it in `with`.

    Every method raises Unavailable when nobody serves there, Retryable when the answer does not come
    in time, and otherwise the error that the orchestrator raised. What changes something carries a key of
    its own, under which Phoenix does it once: it is sent again where the connection is lost.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        url: str | None = None,
        token: str | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        """Without `data_dir` and `url` PHOENIX_URL and PHOENIX_TOKEN count. `timeout`: seconds for one
        answer. Raises Invalid where neither is given, and for what is no address."""
        if url is None and data_dir is None:
            url = os.environ.get(URL_VARIABLE)
            token = token or os.environ.get(TOKEN_VARIABLE)
        if url is not None:
            place: Place = AddressPlace(url, token)
        elif data_dir is not None:
            place = SocketPlace(data_dir)
        else:
            raise Invalid(
                "neither a data directory nor an address of a Phoenix is given",
                remedy=f"Client(Path(…)), Client(url=…), or set {URL_VARIABLE}",
            )
        super().__init__(place, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is held open between calls; `with` reads well and leaves room for it."""

    # -- reading -----------------------------------------------------------------------------------

    def version(self) -> dict[str, str]:
        return self._get(dict[str, str], "version")

    def health(self) -> dict[str, Any]:
        return self._get(dict[str, Any], "health")

    def identity(self) -> Identity:
        """Who asks, as Phoenix sees it."""
        return self._get(Identity, "identity")

    def config(self) -> AppliedConfig:
        """What was applied last, with values of environments masked. Raises NotFound where nothing was."""
        answer = self._asked("GET", ("config",))
        config = self._decoded(dict[str, Any], answer, ("config",))
        return AppliedConfig(answer.headers.get("etag", "").strip('"'), config)

    def speed(self) -> float:
        """How many seconds of rollout time pass in one real second."""
        return float(self.health().get("speed", 1.0))

    def rollouts(self) -> list[RolloutView]:
        return [view for page in self._pages(list[RolloutView], "rollouts") for view in page]

    def rollout(self, name: str) -> RolloutView:
        return self._get(RolloutView, "rollouts", name)

    def verdict(self, name: str) -> Verdict | None:
        """The health validator's last answer; None before the first."""
        kind = cast("type[Verdict | None]", Verdict | None)
        return self._get(kind, "rollouts", name, "verdict")

    def events(self, name: str, *, limit: int = 100) -> list[Event]:
        return self._get(list[Event], "rollouts", name, "events", query={"limit": limit})

    def all_events(self, *, limit: int = 100) -> list[RolloutEvent]:
        """The newest of all rollouts, oldest first."""
        return self._get(list[RolloutEvent], "events", query={"limit": limit})

    def history(self, name: str, *, limit: int = 50) -> list[Release]:
        return self._get(list[Release], "rollouts", name, "history", query={"limit": limit})

    def revisions(self, name: str) -> list[Revision]:
        return self._get(list[Revision], "rollouts", name, "revisions")

    def observations(
        self,
        name: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 1000,
    ) -> list[Observation]:
        query: dict[str, Any] = {"limit": limit}
        moments = {"since": since, "until": until}
        query |= {name: at.isoformat() for name, at in moments.items() if at is not None}
        return self._get(list[Observation], "rollouts", name, "observations", query=query)

    def services(self) -> list[ServiceView]:
        return [view for page in self._pages(list[ServiceView], "services") for view in page]

    def service(self, name: str) -> ServiceView:
        return self._get(ServiceView, "services", name)

    def logs(
        self,
        name: str,
        *,
        instance: str | None = None,
        lines: int = 100,
        after: Mapping[str, int] | None = None,
    ) -> LogPage:
        """The last `lines` lines, or what is newer than the `offsets` of an earlier page."""
        query: dict[str, Any] = {"lines": lines}
        if instance is not None:
            query["instance"] = instance
        if after:
            query["after"] = [f"{name}:{offset}" for name, offset in after.items()]
        return self._get(LogPage, "services", name, "logs", query=query)

    def freezes(self) -> list[FreezeView]:
        """Those in force or to come."""
        return self._get(list[FreezeView], "freezes")

    def groups(self) -> list[GroupView]:
        return self._get(list[GroupView], "groups")

    def dora(self, since: timedelta, rollout: str | None = None) -> DoraReport:
        """Numbers of delivery over the time `since` now."""
        query: dict[str, Any] = {"since": format_duration(since)}
        if rollout is not None:
            query["rollout"] = rollout
        return self._get(DoraReport, "reports", "dora", query=query)

    def stream(self, name: str | None = None, *, last_id: str = "") -> Iterator[StreamEvent]:
        """Changes as they come, of one rollout or of all: what `GET /stream` tells, for as long as one reads.

        It comes back by itself where it was when the connection is lost; `reset` says that something was
        missed all the same. The stream of a rollout ends with `gone`. Raises Unavailable when nobody has
        served for a minute, and what the API answers instead.
        """
        path = ("stream",) if name is None else ("rollouts", quoted(name), "stream")
        return follow(self._place, PREFIX + "/".join(path), last_id)

    # -- changing ----------------------------------------------------------------------------------

    def start_freeze(
        self,
        name: str | None = None,
        *,
        until: datetime | None = None,
        lasting: timedelta | None = None,
        rollouts: tuple[str, ...] = (),
        reason: str,
        under_way: UnderWay = "continue",
        dry_run: bool = False,
    ) -> FreezeView:
        """Begin a freeze now. `lasting`: in place of `until`; neither: until a person ends it."""
        body = {
            "name": name,
            "until": until.isoformat() if until is not None else None,
            "duration": format_duration(lasting) if lasting is not None else None,
            "rollouts": list(rollouts),
            "reason": reason,
            "releasesUnderWay": under_way,
            "dryRun": dry_run,
        }
        return self._post(FreezeView, body, "freezes")

    def end_freeze(self, name: str, *, reason: str = "", dry_run: bool = False) -> FreezeView:
        """End a freeze that a person began."""
        return self._post(FreezeView, {"reason": reason, "dryRun": dry_run}, "freezes", name, "end")

    def override_freeze(self, name: str, *, reason: str, dry_run: bool = False) -> OverrideView:
        """Let the release of a rollout that waits begin in spite of every freeze."""
        body = {"reason": reason, "dryRun": dry_run}
        return self._post(OverrideView, body, "rollouts", name, "freeze-override")

    def apply(
        self,
        config: PhoenixFile,
        *,
        dry_run: bool = False,
        even_if_unattainable: bool = False,
        expect: str | None = None,
    ) -> list[Change]:
        """`expect`: the version of what is applied now; Outdated is raised when it has another one."""
        body = {
            "config": config.model_dump(mode="json", by_alias=True),
            "dryRun": dry_run,
            "evenIfUnattainable": even_if_unattainable,
        }
        headers = {"If-Match": f'"{expect}"'} if expect is not None else None
        return self._post(list[Change], body, "apply", headers=headers)

    def start(
        self,
        name: str,
        *,
        version: str | None = None,
        env: Mapping[str, str] | None = None,
        command: tuple[str, ...] | None = None,
        change_cause: str = "",
        dry_run: bool = False,
        even_if_unattainable: bool = False,
        override_freeze: bool = False,
    ) -> Change:
        body = {
            "version": version,
            "env": dict(env) if env else None,
            "command": list(command) if command else None,
            "changeCause": change_cause,
            "dryRun": dry_run,
            "evenIfUnattainable": even_if_unattainable,
            "overrideFreeze": override_freeze,
        }
        return self._post(Change, body, "rollouts", name, "start")

    def undo(
        self, name: str, *, to_revision: int | None = None, reason: str = "", dry_run: bool = False
    ) -> Change:
        body = {"toRevision": to_revision, "reason": reason, "dryRun": dry_run}
        return self._post(Change, body, "rollouts", name, "undo")

    def command(
        self,
        name: str,
        kind: CommandKind,
        *,
        reason: str = "",
        step: int | None = None,
        override_freeze: bool = False,
    ) -> Command:
        """`step`: the step, from 0, that a promotion is meant for. `override_freeze`: of a retry."""
        body = {
            "kind": kind.value,
            "reason": reason,
            "step": step,
            "overrideFreeze": override_freeze,
        }
        return self._post(Command, body, "rollouts", name, "commands")

    def restart(self, name: str, *, dry_run: bool = False) -> ServiceView:
        query = {"dryRun": "true"} if dry_run else None
        return self._call(ServiceView, "POST", ("services", name, "restart"), query=query)
