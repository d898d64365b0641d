"""What the users of the demo saw, as the load tells it line by line."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel


class Users(BaseModel):
    """Totals since the load began; latencies (seconds) of the last half second. Frozen."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, validate_by_name=True)

    at: float = 0.0
    sent: int = 0
    answered: int = 0
    failed: int = 0
    """Answered with 5xx, or not at all."""
    by_status: dict[str, int] = Field(default_factory=dict)
    by_version: dict[str, int] = Field(default_factory=dict)
    """Answers by the version that gave them; the empty name: by the router itself."""
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None

    def since(self, before: Users) -> Users:
        """Only what was counted after `before`."""
        return self.model_copy(
            update={
                "sent": self.sent - before.sent,
                "answered": self.answered - before.answered,
                "failed": self.failed - before.failed,
                "by_status": _less(self.by_status, before.by_status),
                "by_version": _less(self.by_version, before.by_version),
            }
        )


def read_line(line: bytes | str) -> Users | None:
    """One line of the load's output; None for anything else."""
    try:
        return Users.model_validate_json(line)
    except ValidationError:
        return None


def _less(now: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {key: count - before.get(key, 0) for key, count in now.items() if count > before.get(key, 0)}
