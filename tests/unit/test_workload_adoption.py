"""Who is taken over after a supervisor was killed at any moment; pure, with processes made up."""

from datetime import UTC, datetime
from typing import Any

import pytest

from phoenix_orch.workload.adoption import adoption
from phoenix_orch.workload.processes import Marked, ProcessId
from phoenix_orch.workload.spec import ServiceSpec
from phoenix_orch.workload.state_file import InstanceRecord, ServiceRecord
from phoenix_orch.workload.workload import Instance, InstanceState, WorkloadState

SPEC = ServiceSpec(command="shop {port}")
REVISION = SPEC.template().revision
NAME = f"shop-{REVISION}-1"
BOOT = "boot"


def kept(pid: int | None = 10, state: InstanceState = InstanceState.READY, **record: Any) -> ServiceRecord:
    instance = Instance(
        name=NAME, revision=REVISION, state=state, pid=pid, started=100.0 if pid else None, port=20001
    )
    return ServiceRecord(
        boot=BOOT,
        spec=SPEC,
        templates={REVISION: SPEC.template()},
        next_ordinal=2,
        state=WorkloadState(service="shop", at=datetime.now(UTC), instances=(instance,)),
        records={NAME: InstanceRecord(ordinal=1, **record)},
    )


def marked(pid: int, *, name: str = NAME, started: float = 100.0, **changes: Any) -> Marked:
    fields: dict[str, Any] = {
        "process": ProcessId(pid, started),
        "instance": name,
        "revision": REVISION,
        "service": "shop",
        "port": 20001,
        "leads": True,
    }
    return Marked(**fields | changes)


def living(*running: Marked) -> Any:
    return lambda process: any(process == m.process for m in running)


def test_a_written_process_that_runs_is_adopted() -> None:
    own = marked(10)
    found = adoption(kept(), [own], living(own), BOOT)
    assert [(a.process, a.missed) for a in found.instances] == [(own.process, False)]
    assert found.owns(own)


def test_one_that_hides_its_environment_is_known_by_pid_and_start() -> None:
    found = adoption(kept(), [], lambda process: process == ProcessId(10, 100.0), BOOT)
    assert found.instances[0].process == ProcessId(10, 100.0)


def test_a_pid_that_another_instance_has_now_is_not_adopted() -> None:
    other = marked(10, name=f"shop-{REVISION}-9", port=20009)
    found = adoption(kept(), [other], living(other), BOOT)
    assert found.instances[0].process is None


def test_a_process_started_but_not_written_is_found_by_its_mark() -> None:
    unwritten = marked(11, started=200.0)
    for record in (kept(pid=None, state=InstanceState.BACKOFF), kept(pid=10)):
        found = adoption(record, [unwritten], living(unwritten), BOOT)
        assert found.instances[0].process == unwritten.process
        assert not found.instances[0].missed


def test_an_instance_nobody_wrote_down_is_taken_in_if_its_revision_is_known() -> None:
    unwritten = marked(12, name=f"shop-{REVISION}-7", port=20007)
    found = adoption(kept(), [marked(10), unwritten], living(marked(10), unwritten), BOOT)
    assert [a.instance.name for a in found.instances] == [NAME, f"shop-{REVISION}-7"]
    assert found.next_ordinal == 8
    assert found.owns(unwritten)


@pytest.mark.parametrize(
    "changes",
    [{"revision": "other"}, {"port": None}, {"port": 20001}, {"name": "shop-what"}],
    ids=str,
)
def test_others_are_strays(changes: dict[str, Any]) -> None:
    stray = marked(12, **{"name": f"shop-{REVISION}-7", "port": 20007} | changes)
    found = adoption(kept(), [marked(10), stray], living(marked(10), stray), BOOT)
    assert len(found.instances) == 1
    assert not found.owns(stray)


def test_what_an_instance_started_is_its_own_and_a_second_leader_is_not() -> None:
    own = marked(10)
    worker = marked(13, leads=False)
    session = marked(14, ancestors=frozenset({1, 10}))
    second = marked(15, started=99.0, ancestors=frozenset({1}))
    found = adoption(kept(), [own, worker, session, second], living(own), BOOT)
    assert [found.owns(m) for m in (own, worker, session, second)] == [True, True, True, False]


def test_workers_of_a_leader_that_ended_are_strays() -> None:
    worker = marked(13, leads=False)
    found = adoption(kept(), [worker], living(worker), BOOT)
    assert found.instances[0].process is None
    assert not found.owns(worker)


def test_an_end_in_the_meantime_counts_unless_the_machine_went_down() -> None:
    assert adoption(kept(), [], living(), BOOT).instances[0].missed
    assert not adoption(kept(), [], living(), "another boot").instances[0].missed
    waiting = kept(pid=None, state=InstanceState.BACKOFF)
    assert not adoption(waiting, [], living(), BOOT).instances[0].missed


def test_a_draining_instance_without_process_has_left() -> None:
    assert adoption(kept(state=InstanceState.DRAINING), [], living(), BOOT).instances == []
