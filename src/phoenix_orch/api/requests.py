"""Bodies of what changes something."""

from __future__ import annotations

from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.rollout.spec import Model
from phoenix_orch.rollout.status import CommandKind


class CommandRequest(Model):
    kind: CommandKind
    reason: str = ""
    step: int | None = None
    """The step, from 0, that a promotion is meant for; refused when it is at another one."""


class StartRequest(Model):
    """What of stable's template is other in the new revision. Left out: as it is."""

    version: str | None = None
    env: dict[str, str] | None = None
    """Laid over the environment of stable."""
    command: tuple[str, ...] | None = None
    change_cause: str = ""
    dry_run: bool = False
    even_if_unattainable: bool = False
    """Also when stable itself does not keep the limits that the release would be judged by."""


class UndoRequest(Model):
    to_revision: int | None = None
    """Number of the revision; left out: the one before."""
    reason: str = ""
    dry_run: bool = False


class ApplyRequest(Model):
    config: PhoenixFile
    dry_run: bool = False
    even_if_unattainable: bool = False
    """Also release where stable itself does not keep the limits."""
