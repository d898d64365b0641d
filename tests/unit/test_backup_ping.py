"""Of which components a fresh backup is asked for, before who watches is called."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from phoenix_orch.kernel.errors import NotFound, PhoenixError, Retryable
from phoenix_orch.orchestrator.backup_ping import _here


def backups(error: PhoenixError | None) -> Any:
    def members(component: str) -> list[str]:
        if component == "volume/db":
            if error is not None:
                raise error
            return ["volume/db.data-0"]
        return [component]

    return SimpleNamespace(sources=lambda: {"config": None, "volume/db": None}, members=members)


def view(component: str) -> Any:
    return SimpleNamespace(scope=SimpleNamespace(component=component))


def test_a_component_of_several_claims_is_each_of_them() -> None:
    assert _here(backups(None), [view("volume/db.gone")]) == {"config", "volume/db.data-0"}


@pytest.mark.parametrize("error", [NotFound("none has the labels"), Retryable("no answer")])
def test_claims_that_cannot_be_looked_up_are_those_that_were_stored(error: PhoenixError) -> None:
    found = _here(backups(error), [view("volume/db.data-0"), view("volume/dbase"), view("redis/db.shard0")])
    assert found == {"config", "volume/db", "volume/db.data-0"}
