"""The picture of a service while nobody supervises it: what has gone is not shown as ready."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from phoenix_orch.runtime.process_table import boot_id
from phoenix_orch.workload import state_file
from phoenix_orch.workload.spec import ServiceSpec
from phoenix_orch.workload.state_file import ServiceRecord
from phoenix_orch.workload.view import FileWorkloadView
from phoenix_orch.workload.workload import Instance, InstanceState, WorkloadState

pytestmark = pytest.mark.anyio


def written(data_dir: Path, boot: str, pid: int) -> None:
    instance = Instance(
        name="web-r-1", revision="r", state=InstanceState.READY, pid=pid, started=1.0, port=20_000
    )
    record = ServiceRecord(
        boot=boot,
        spec=ServiceSpec(command="serve {port}"),
        state=WorkloadState(service="web", at=datetime.now(UTC), instances=(instance,)),
    )
    state_file.write(state_file.Layout(data_dir, "web").state, record)


@pytest.mark.parametrize(
    ("boot", "pid", "state"),
    [
        (boot_id(), os.getpid(), InstanceState.READY),
        (boot_id(), 2**22 + 1, InstanceState.BACKOFF),
        ("an earlier one", os.getpid(), InstanceState.BACKOFF),
    ],
    ids=["runs", "ended", "before a restart of the machine"],
)
async def test_who_has_gone_is_not_ready(tmp_path: Path, boot: str, pid: int, state: InstanceState) -> None:
    written(tmp_path, boot, pid)
    (instance,) = (await FileWorkloadView(tmp_path).state("web")).instances
    assert instance.state is state
    assert (instance.pid is None) == (state is InstanceState.BACKOFF)
