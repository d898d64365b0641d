"""What would have to be applied for what serves now: a configuration with the last releases that succeeded.

`applied.json` says what was asked for last, also where that was taken back, or something else was started by
hand. Whoever begins from nothing but a backup has no store that knows better (ADR 0064).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError

from phoenix_orch.kernel.errors import Invalid, PhoenixError
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.kept_config import kept_text, read_kept
from phoenix_orch.orchestrator.layout import write_whole
from phoenix_orch.rollout.status import State, Status
from phoenix_orch.rollout.store.store import RolloutStore
from phoenix_orch.runtime.faults import Faults
from phoenix_orch.workload.spec import ServiceSpec, Template

LOOK = 1.0
"""Seconds between two looks at what has become stable."""

_log = structlog.get_logger("phoenix")


def proven(status: Status) -> str | None:
    """The revision of the last release that has succeeded. One that bakes has not yet."""
    return status.previous or status.stable if status.state is State.BAKING else status.stable


def with_template(spec: ServiceSpec, template: Mapping[str, Any]) -> ServiceSpec:
    """The service with what runs in it. Raises ValidationError for what no file may say any more."""
    return ServiceSpec.model_validate({**spec.model_dump(mode="json", by_alias=True), **template})


def remembered(path: Path, service: str) -> Template | None:
    """What served last of a service, as the file says; None where that is not known."""
    try:
        kept = read_kept(path)
    except Invalid:
        return None
    spec = kept.services.get(service) if kept is not None else None
    return spec.template() if spec is not None else None


class Serving:
    """Keeps the file of one data directory."""

    def __init__(self, store: RolloutStore, config: Callable[[], PhoenixFile | None], path: Path) -> None:
        """`config`: what was applied last."""
        self._store = store
        self._config = config
        self._path = path
        self._known: object = None
        self.text: str | None = None
        """What the file holds; None before the first look."""

    async def keep(self) -> None:
        """Until cancelled."""
        faults = Faults(_log)
        while True:
            try:
                await self.look()
            except PhoenixError as error:
                faults.tell("serving.json", error=error)
            except OSError as error:
                faults.tell("serving.json", error=error)
            else:
                faults.mended("serving.json")
            await asyncio.sleep(LOOK)

    async def look(self) -> None:
        """Write the file where something became stable, or was applied, since. Raises OSError, Retryable."""
        config = self._config()
        if config is None:
            return
        rollouts = await self._store.rollouts()
        found = {one.service: (one.name, proven(one.status)) for one in rollouts}
        if (config, found) == self._known:
            return
        services = {
            name: await self._serves(name, spec, *found.get(name, ("", None)))
            for name, spec in config.services.items()
        }
        text = kept_text(config.model_copy(update={"services": services}))
        if text != self.text:
            await asyncio.to_thread(write_whole, self._path, text)
        self._known, self.text = (config, found), text

    async def _serves(
        self, service: str, spec: ServiceSpec, rollout: str, revision: str | None
    ) -> ServiceSpec:
        """As the store says; where it says nothing, as the file said before."""
        template: Mapping[str, Any] | None = None
        if revision is None:
            before = remembered(self._path, service)
            template = before.model_dump(mode="json", by_alias=True) if before is not None else None
        elif revision != spec.template().revision:
            kept = await self._store.revisions(rollout)
            template = next((one.template for one in kept if one.revision == revision), None)
        if template is None:
            return spec
        try:
            return with_template(spec, template)
        except ValidationError:
            _log.warning("what serves can be in no file any more; it is not remembered", service=service)
            return spec
