"""Whether anybody of a variant could answer, from one reading to the next. Pure.

The router counts an attempt for a variant when it sends a request to one of its addresses, also when there is
nobody behind it any more: it answers 502 by itself then. Such answers say nothing of the version (ADR 0014).
An interval says something of it when at its beginning an instance could answer, or when one ended in it: a
version that breaks under load does one of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from phoenix_orch.workload.workload import InstanceState, WorkloadState


class Serving(BaseModel):
    """What is remembered of the last reading that told counts. Empty: nothing is known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nobody: tuple[str, ...] = ()
    """Revisions that requests were meant for, and of which no instance could answer."""
    exposed: tuple[str, ...] = ()
    """Those of them that requests were sent to all the same."""
    exits: dict[str, datetime] = {}
    """The newest unexpected end of an instance of each revision."""

    def unserved(self, workload: WorkloadState | None, revision: str) -> bool:
        """Whether the interval up to now began with nobody, and nobody of the revision has ended in it. Not
        known is no excuse."""
        if workload is None or revision not in self.nobody:
            return False
        return self.exits.get(revision) == _newest(workload, revision)


def nobody(workload: WorkloadState, revision: str) -> bool:
    """No instance of it can answer: none has been ready. One that is no longer ready answers, if badly, and
    so does one that drains."""
    return not any(
        instance.state in (InstanceState.READY, InstanceState.UNREADY)
        or (instance.state is InstanceState.DRAINING and instance.pid is not None)
        for instance in workload.of(revision)
    )


def part(workload: WorkloadState, revision: str, *, since: float, now: float) -> float:
    """Share of an interval that began with nobody, 0..1, until an instance was ready. `since` and `now`: its
    ends in seconds since 1970 by the clock of the workload."""
    ready = [i.ready_since.timestamp() for i in workload.ready(revision) if i.ready_since is not None]
    if not ready or now <= since:
        return 1.0
    return min(1.0, max(0.0, (min(ready) - since) / (now - since)))


def following(
    before: Serving,
    workload: WorkloadState | None,
    shares: Mapping[str, int],
    backends: frozenset[str],
    *,
    counted: bool,
) -> Serving:
    """What to remember. `shares`: per cent of the requests that each revision is meant to get; `backends`:
    the addresses that requests are sent to.

    A reading without counts begins no interval: who was there in between ends what is remembered of an
    absence, and who is missing then begins none.
    """
    if workload is None:
        return Serving()
    absent = [revision for revision, share in shares.items() if share > 0 and nobody(workload, revision)]
    if not counted:
        return before.model_copy(
            update={
                "nobody": tuple(revision for revision in before.nobody if revision in absent),
                "exposed": tuple(revision for revision in before.exposed if revision in absent),
            }
        )
    newest = {revision: _newest(workload, revision) for revision in shares}
    return Serving(
        nobody=tuple(absent),
        exposed=tuple(revision for revision in absent if _named(workload, revision, backends)),
        exits={revision: at for revision, at in newest.items() if at is not None},
    )


def _named(workload: WorkloadState, revision: str, backends: frozenset[str]) -> bool:
    ports = {f":{instance.port}" for instance in workload.of(revision)}
    return any(url.endswith(tuple(ports)) for url in backends) if ports else False


def _newest(workload: WorkloadState, revision: str) -> datetime | None:
    return max((gone.at for gone in workload.exits if gone.revision == revision), default=None)
