"""The client's calls about the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from phoenix_orch.client.calling import Calling
from phoenix_orch.orchestrator.audit_views import AuditHead, AuditPage, AuditVerified


class AuditCalls(Calling):
    """Calls about the audit log."""

    def audit(
        self,
        *,
        actor: str = "",
        action: str = "",
        target: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        before: int | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> AuditPage:
        """The newest records that are wanted; with the `before` of a page those before it, with `after` the
        oldest ones with a higher number. `actor`, `action` and `target` are patterns: `rollout.*`."""
        query: dict[str, Any] = {"actor": actor, "action": action, "target": target, "limit": limit}
        moments = {"since": since, "until": until}
        query |= {name: at.isoformat() for name, at in moments.items() if at is not None}
        places = {"before": before, "after": after}
        query |= {name: seq for name, seq in places.items() if seq is not None}
        return self._get(AuditPage, "audit", query=query)

    def audit_head(self) -> AuditHead:
        """The end of the log, to be noted elsewhere."""
        return self._get(AuditHead, "audit", "head")

    def audit_verification(self, head: str = "") -> AuditVerified:
        """What a walk over the whole log finds. `head`: `SEQ:HASH`, noted earlier, that has to be in it."""
        return self._get(AuditVerified, "audit", "verification", query={"head": head} if head else {})
