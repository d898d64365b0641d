"""A record says who acts now, and by which request from where."""

from __future__ import annotations

import os

from phoenix_orch.orchestrator.recording import origin
from phoenix_orch.runtime.users import name_of
from phoenix_orch.security.acting import Caller, current
from phoenix_orch.security.recorder import Origin
from phoenix_orch.security.rights import Principal


def test_the_caller_is_told_and_else_the_process() -> None:
    itself = Origin(name_of(os.getuid()), "", "process")
    assert origin() == itself
    token = current.set(Caller(Principal("ann", "user", ()), "r1", "127.0.0.1"))
    try:
        assert origin() == Origin("ann", "r1", "127.0.0.1")
    finally:
        current.reset(token)
    assert origin() == itself
