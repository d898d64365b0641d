"""Which records somebody wants to see. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from phoenix_orch.security.audit_chain import Record


@dataclass(frozen=True, slots=True)
class Query:
    """What is left out makes no difference. Texts are patterns: `rollout.*`."""

    actor: str = ""
    action: str = ""
    target: str = ""
    since: datetime | None = None
    until: datetime | None = None
    """Not at that moment any more."""

    def wants(self, record: Record) -> bool:
        given = ((self.actor, record.actor), (self.action, record.action), (self.target, record.target))
        return (
            all(not pattern or fnmatchcase(text, pattern) for pattern, text in given)
            and (self.since is None or record.at >= self.since)
            and (self.until is None or record.at < self.until)
        )
