"""A storage with copies of a Redis, and what restores them: for tests, and for a process that is killed.

    python -m tests.redis_restoring FOLDER STATE PLAN HASH PORT IDENTITY-FILE

carries a plan out and ends by SIGKILL when the journal says STATE. For `returning` its keys are miscounted.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tests import backup_stage
from tests.backup_stage import TRUST, Stage

from phoenix_orch.kernel.errors import Terminal
from phoenix_orch.recovery import keys
from phoenix_orch.recovery.catalog import Backup, Catalog
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.keys import Identity
from phoenix_orch.recovery.layout import Scope
from phoenix_orch.recovery.manifest import Trigger, TriggerKind
from phoenix_orch.recovery.publish import Published
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.restore.journal import Entry, Journal
from phoenix_orch.recovery.restore.run import Restorer
from phoenix_orch.recovery.selecting import select
from phoenix_orch.recovery.sources.redis import RedisSource
from phoenix_orch.recovery.sources.redis_spec import Prefer, RedisSpec

COMPONENT = "redis/cache"
SCOPE = Scope("local", "default", COMPONENT)


def source(address: RedisAddress) -> RedisSource:
    return RedisSource(COMPONENT, address, RedisSpec(address=str(address), prefer=Prefer.PRIMARY))


def find(folder: Path) -> Callable[[str], Backup]:
    return lambda word: select(Catalog(FolderStore(folder), TRUST).read(SCOPE).backups, word)


def taken(at: Stage, address: RedisAddress, kind: TriggerKind = TriggerKind.MANUAL) -> Published:
    found = at.publisher().publish("local", "default", source(address), Trigger(kind=kind, actor="test"))
    assert found is not None
    return found


def restorer(folder: Path, books: Path, identities: tuple[Identity, ...], **more: object) -> Restorer:
    at = Stage(folder, FolderStore(folder), identities)
    options = {
        "journal": Journal(books),
        "keep_safe": lambda address: taken(at, address, TriggerKind.PRE_RESTORE),
        **more,
    }
    return Restorer(at.store, identities, at.verifier, find(folder), now=at.now, **options)


class _Dying(Journal):
    def __init__(self, directory: Path, state: str) -> None:
        super().__init__(directory)
        self._state = state

    def write(self, entry: Entry) -> Entry:
        super().write(entry)
        if entry.state.value == self._state:
            os.kill(os.getpid(), signal.SIGKILL)
        return entry


def _miscounted(*_: object) -> None:
    raise Terminal("the target loaded 1 key")


def main() -> None:
    folder, state, plan, hash_, port, identity = sys.argv[1:]
    identities = tuple(keys.read(Path(identity)))
    safe = backup_stage.RECIPIENTS[1]
    backup_stage.RECIPIENTS = (keys.Recipient(identities[0].public, "here"), safe)
    if state == "returning":
        Restorer._counted = _miscounted  # type: ignore[method-assign]
    acting = restorer(
        Path(folder), Path(folder) / "journal", identities, journal=_Dying(Path(folder) / "journal", state)
    )
    acting.run(plan, RedisAddress(port=int(port)), hash_)


if __name__ == "__main__":
    main()
