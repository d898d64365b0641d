"""Who processes are by their own marks; pure, with processes made up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.test_workload_adoption import NAME, REVISION, SPEC, marked

from phoenix_orch.workload.adoption import adoption, by_its_marks, led
from phoenix_orch.workload.found import Found
from phoenix_orch.workload.state_file import ServiceRecord
from phoenix_orch.workload.workload import InstanceState, WorkloadState

TEMPLATE = SPEC.template()
SECOND = f"shop-{REVISION}-2"


def test_the_leader_of_an_instance_is_the_newest_that_no_other_one_started() -> None:
    old = marked(9, started=50.0)
    own = marked(10)
    worker = marked(11, leads=False, ancestors=frozenset({10}))
    session = marked(12, started=300.0, ancestors=frozenset({1, 10}))
    other = marked(20, name=SECOND, port=20002)
    assert led([worker, session, own, old, other]) == {NAME: own, SECOND: other}
    assert led([worker]) == {}


def test_marks_are_enough_for_an_instance() -> None:
    found = by_its_marks(marked(10), TEMPLATE, ())
    assert found is not None
    assert (found.instance.name, found.instance.port, found.record.ordinal) == (NAME, 20001, 1)
    assert found.record.been_ready, "it may be routed: it leaves only when it is released"
    assert by_its_marks(marked(11), TEMPLATE, [found]) is None


@pytest.mark.parametrize("changes", [{"port": None}, {"name": "shop-what"}, {"name": ""}], ids=str)
def test_less_is_not(changes: dict[str, Any]) -> None:
    assert by_its_marks(marked(10, **changes), TEMPLATE, ()) is None


def test_found_ones_are_shown_as_serving_but_not_counted_on() -> None:
    found = Found()
    found.add([marked(10), marked(11, name=SECOND, port=None)])
    assert [(i.name, i.state, i.port) for i in found.snapshots()] == [
        (NAME, InstanceState.DRAINING, 20001),
        (SECOND, InstanceState.DRAINING, 0),
    ]
    assert found.ports == {20001}
    assert found.highest_ordinal == 2


def test_they_are_taken_when_their_template_is_told_and_others_stay() -> None:
    found = Found()
    strange = marked(12, name="shop-other-3", revision="other", port=20003)
    found.add([marked(10), strange])
    (adopted,) = found.take(TEMPLATE, ())
    assert adopted.process == marked(10).process
    assert found.take(TEMPLATE, ()) == []
    assert found.let_go({"shop-other-3"}) == []
    assert found.let_go(()) == [strange]
    assert not found


def test_the_ended_are_forgotten() -> None:
    found = Found()
    found.add([marked(10), marked(11, name=SECOND, port=20002)])
    assert found.prune(lambda process: process.pid == 11)
    assert not found.prune(lambda _: True)
    assert [i.pid for i in found.snapshots()] == [11]


def test_those_found_before_are_found_again_and_are_no_strays() -> None:
    held = marked(30, name="shop-other-3", revision="other", port=20003)
    found = Found()
    found.add([held])
    record = ServiceRecord(
        spec=SPEC,
        state=WorkloadState(service="shop", at=datetime.now(UTC), instances=found.snapshots()),
    )
    again = adoption(record, [held, marked(31, name="shop-gone-4", revision="other")], lambda _: True, "")
    assert again.found == [held]
    assert again.instances == []
