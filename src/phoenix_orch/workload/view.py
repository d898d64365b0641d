"""The workload as other processes see it: by the file its supervisor publishes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil

from phoenix_orch.kernel.errors import Invalid, NotFound, Retryable
from phoenix_orch.runtime.process_table import boot_id
from phoenix_orch.workload import state_file
from phoenix_orch.workload.workload import Instance, InstanceState, WorkloadState


class FileWorkloadView:
    """A WorkloadView for validators and rollback controllers, also while no supervisor runs.

    The picture is then the last one published, except that instances whose process has ended
    meanwhile are shown as what they are: waiting for somebody to start them.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.expanduser().resolve()

    async def services(self) -> tuple[str, ...]:
        """Services with a published picture, sorted."""
        return tuple(await asyncio.to_thread(state_file.services, self._data_dir))

    async def state(self, service: str) -> WorkloadState:
        """Raises NotFound for an unknown service, Retryable when the file cannot be read now, and
        Invalid for what cannot be the name of a service."""
        return await asyncio.to_thread(self._read, service)

    def _read(self, service: str) -> WorkloadState:
        path = state_file.Layout(self._data_dir, service).state
        try:
            record = state_file.read(path)
        except NotFound:
            raise
        except Invalid as error:
            raise Retryable(error.message, remedy=error.remedy) from None
        state, same_boot = record.state, record.boot == boot_id()
        instances = tuple(_as_it_is(instance, same_boot=same_boot) for instance in state.instances)
        return state.model_copy(update={"instances": instances})


def _as_it_is(instance: Instance, *, same_boot: bool) -> Instance:
    """`same_boot`: pids of an earlier run of the kernel belong to others now."""
    if instance.pid is None or (same_boot and psutil.pid_exists(instance.pid)):
        return instance
    draining = instance.state is InstanceState.DRAINING
    return instance.model_copy(
        update={
            "state": InstanceState.DRAINING if draining else InstanceState.BACKOFF,
            "pid": None,
            "started": None,
            "ready_since": None,
        }
    )
