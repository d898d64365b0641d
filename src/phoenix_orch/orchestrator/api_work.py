"""What the layers above are given to serve: they import this package, never the other way round."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from phoenix_orch.orchestrator.api_spec import ApiSpec
from phoenix_orch.orchestrator.identity import Doorkeeper
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.orchestrator.operations_port import Operations


@dataclass(frozen=True, slots=True)
class ApiWork:
    """The API of one data directory."""

    operations: Operations
    layout: Layout
    identity: Doorkeeper
    spec: ApiSpec
    listening: Callable[[], None]
    """Called once: from then on everybody who connects is answered."""
    answering: Callable[[str], None]
    """Called with the address at which it is answered over TCP, once there is one."""


ServeApi = Callable[[ApiWork], Coroutine[Any, Any, None]]
"""Serves until cancelled."""
