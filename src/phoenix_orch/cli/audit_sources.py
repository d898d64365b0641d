"""Where `phoenix audit` reads: files or a store, which it opens itself, or a Phoenix that is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from phoenix_orch.client import Client
from phoenix_orch.orchestrator import audit_views
from phoenix_orch.orchestrator.audit_views import AuditHead, AuditRecord, AuditVerified
from phoenix_orch.security.audit_log import AuditRecords
from phoenix_orch.security.audit_query import Query

PAGE = 1000
WALK = 120.0
"""Seconds that a Phoenix gets for a walk over its whole log."""


class Source(Protocol):
    """Raises PhoenixError where it cannot be read."""

    def newest(self, limit: int, wanted: Query) -> list[AuditRecord]:
        """Oldest first."""
        ...

    def all(self, wanted: Query) -> Iterator[AuditRecord]:
        """Oldest first, memory for a page at a time."""
        ...

    def head(self) -> AuditHead: ...

    def verify(self, head: str | None) -> AuditVerified:
        """`head`: `SEQ:HASH` that has to be in it."""
        ...


class Opened:
    """A log that this process reads itself."""

    def __init__(self, log: AuditRecords) -> None:
        self._log = log

    def newest(self, limit: int, wanted: Query) -> list[AuditRecord]:
        return [audit_views.viewed(one) for one in self._log.newest(limit, wanted.wants)]

    def all(self, wanted: Query) -> Iterator[AuditRecord]:
        return (audit_views.viewed(one) for one in self._log.after(0) if wanted.wants(one))

    def head(self) -> AuditHead:
        last = self._log.last()
        return AuditHead(seq=last.seq, hash=last.hash)

    def verify(self, head: str | None) -> AuditVerified:
        return audit_views.verified(self._log.verify(audit_views.noted(head) if head is not None else None))


class Asked:
    """The log of a Phoenix elsewhere."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def newest(self, limit: int, wanted: Query) -> list[AuditRecord]:
        found: list[AuditRecord] = []
        before: int | None = None
        while len(found) < limit:
            page = self._client.audit(
                actor=wanted.actor,
                action=wanted.action,
                target=wanted.target,
                since=wanted.since,
                until=wanted.until,
                before=before,
                limit=min(PAGE, limit - len(found)),
            )
            found = [*page.records, *found]
            before = page.before
            if before is None:
                break
        return found

    def all(self, wanted: Query) -> Iterator[AuditRecord]:
        after, more = 0, True
        while more:
            page = self._client.audit(
                actor=wanted.actor,
                action=wanted.action,
                target=wanted.target,
                since=wanted.since,
                until=wanted.until,
                after=after,
                limit=PAGE,
            )
            yield from page.records
            more = len(page.records) == PAGE
            after = page.records[-1].seq if page.records else after

    def head(self) -> AuditHead:
        return self._client.audit_head()

    def verify(self, head: str | None) -> AuditVerified:
        return self._client.audit_verification(head or "")
