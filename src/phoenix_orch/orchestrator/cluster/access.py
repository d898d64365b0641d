"""Which cluster a person means. Imports nothing heavy: the command line has it in every signature."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Access:
    """Which cluster, as kubectl is told, and where the log beside it is."""

    namespace: str | None = None
    kubeconfig: Path | None = None
    context: str | None = None
    store: str | None = None
    """URL of the Redis or Valkey with events, history and observations; None: what the objects say is all."""
