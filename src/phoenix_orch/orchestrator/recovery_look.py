"""What the console shows of recovery: backups by component, and drills. Read from the storage each time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from phoenix_orch.kernel.errors import NotFound
from phoenix_orch.orchestrator.kept_config import read_kept
from phoenix_orch.orchestrator.layout import Layout

if TYPE_CHECKING:
    from phoenix_orch.orchestrator.drills import Drills
    from phoenix_orch.recovery.drill_report import Report


@dataclass(frozen=True, slots=True)
class ComponentLook:
    """One component. None and 0 where there is no good backup of it."""

    component: str
    copies: int
    newest: str = ""
    """Id of the newest good one."""
    as_of: datetime | None = None
    """Whose state that holds: what came later would be lost now."""
    rpo_seconds: float = 0.0
    """From then until it was published."""
    level: int | None = None
    bytes: int = 0
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecoveryView:
    components: Sequence[ComponentLook]
    drills: Sequence[Report]
    """Newest first."""
    faults: Sequence[str] = ()
    """Reports that are not as they were written."""
    lost: str = ""
    """Why nothing can be seen: the storage is not the one that it was."""


class Recovery(Protocol):
    async def overview(self) -> RecoveryView | None:
        """None where backups are not configured. Raises what the storage raises."""

    async def drill(self, id: str) -> Report:  # noqa: A002 - the field's word
        """Raises NotFound."""


class NoRecovery:
    """Where nothing is backed up."""

    async def overview(self) -> RecoveryView | None:
        return None

    async def drill(self, id: str) -> Report:  # noqa: A002
        raise NotFound(f"there is no drill {id!r}")


class StoredRecovery:
    """Of one data directory, by the configuration that was applied last."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    async def overview(self) -> RecoveryView | None:
        return await asyncio.to_thread(self._overview)

    async def drill(self, id: str) -> Report:  # noqa: A002
        return await asyncio.to_thread(self._drill, id)

    def _drill(self, name: str) -> Report:
        drills = self._drills()
        if drills is None:
            raise NotFound(f"there is no drill {name!r}")
        return drills.one(name)

    def _overview(self) -> RecoveryView | None:
        from phoenix_orch.orchestrator.backup_tasks import problems  # noqa: PLC0415 - half a second
        from phoenix_orch.recovery.storage_mark import StorageLostError  # noqa: PLC0415

        drills = self._drills()
        if drills is None:
            return None
        backups = drills.backups
        try:
            views = backups.views()
        except StorageLostError as error:
            return RecoveryView((), (), lost=f"{error.message}: {error.remedy}")
        now = backups.store.now()
        components = []
        for view in views:
            good = view.newest_good
            look = ComponentLook(
                view.scope.component, len(view.live), problems=tuple(problems(view, backups.spec, now))
            )
            if good is not None:
                time = good.manifest.time
                look = ComponentLook(
                    look.component,
                    look.copies,
                    good.id,
                    time.consistency_point,
                    time.rpo_seconds,
                    None if good.level is None else good.level.value,
                    good.manifest.stream.stored_bytes,
                    look.problems,
                )
            components.append(look)
        reports, faults = drills.reports(20)
        return RecoveryView(components, reports, faults)

    def _drills(self) -> Drills | None:
        from phoenix_orch.orchestrator.backups import Backups  # noqa: PLC0415
        from phoenix_orch.orchestrator.drills import Drills  # noqa: PLC0415

        config = read_kept(self._layout.config)
        if config is None or config.backup is None:
            return None
        return Drills(Backups(config.backup, self._layout, by="console"), self._layout, by="console")
