"""The audit log of one data directory, as the processes of Phoenix open it."""

from __future__ import annotations

import asyncio
import os

from phoenix_orch.kernel.masking import Masker
from phoenix_orch.orchestrator.layout import Layout, mask_key
from phoenix_orch.runtime.users import name_of
from phoenix_orch.security import acting
from phoenix_orch.security.audit_log import AuditLog
from phoenix_orch.security.recorder import Origin, Recorder


async def open_recorder(layout: Layout) -> Recorder:
    """For the process that runs Phoenix."""
    key = await asyncio.to_thread(mask_key, layout)
    return Recorder(AuditLog(layout.audit), Masker(key), origin=origin)


def origin() -> Origin:
    """Who acts now; what nobody asked for was done by the user who started Phoenix."""
    caller = acting.current.get()
    if caller is None:
        return Origin(actor=name_of(os.getuid()), source="process")
    return Origin(caller.name, caller.request_id, caller.address)
