"""Replace instances that outgrow their memory limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from phoenix_orch.workload.instance import SupervisedInstance
from phoenix_orch.workload.resources import ResourceSampler


async def guard_memory(instances: Callable[[], Sequence[SupervisedInstance]], interval: float) -> None:
    """Look every `interval` seconds, until cancelled."""
    sampler = ResourceSampler()
    while True:
        await asyncio.sleep(interval)
        limited = [i for i in instances() if i.template.memory_limit is not None and i.process]
        if not limited:
            continue
        usage = await asyncio.to_thread(sampler.sample, [i.snapshot() for i in limited])
        for instance in limited:
            used, limit = usage.get(instance.name), instance.template.memory_limit
            if used is not None and limit is not None and used.memory > limit:
                instance.replace("oom")
