"""How a replica in a cluster is: whether it leads, what it knows, and whether the log answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from phoenix_orch.orchestrator.components import store_state
from phoenix_orch.rollout.store.valkey import ValkeyStore


class Office:
    """Whether this process leads."""

    def __init__(self) -> None:
        self.leads = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """One term."""
        self.leads = True
        try:
            yield
        finally:
            self.leads = False


async def info(
    namespace: str, waiting: Callable[[], str], log: ValkeyStore, office: Office
) -> dict[str, Any]:
    """As `Operations.info`. `waiting`: which watches have not shown everything once.

    The log is no `store` here: without it the replica reads, steers and aborts, and only history is missing.
    """
    return {
        "version": version("phoenix-orchestrator"),
        "pid": os.getpid(),
        "dataDir": "",
        "namespace": namespace,
        "speed": 1.0,
        "components": [
            {"name": "orchestrator", "state": "ok", "role": "leads" if office.leads else "stands by"},
            {"name": "watches", "state": waiting() or "ok"},
            {"name": "log", "state": await store_state(log)},
        ],
    }
