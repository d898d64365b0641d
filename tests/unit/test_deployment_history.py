"""History and undo, as kubectl does them, and what a person did meanwhile."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from tests.unit.deployment_setting import deployment, merged, replica_set, template

from phoenix_orch.kernel.errors import BadState, NotFound
from phoenix_orch.workload.deployment import marks
from phoenix_orch.workload.deployment.history import changed_by_others, history, undo
from phoenix_orch.workload.deployment.revision import template_hash

ONE, TWO, THREE = (template(f"shop:{n}") for n in (1, 2, 3))
NOW = deployment(pods=THREE)
NOW["metadata"]["annotations"] = {
    marks.CHANGE_CAUSE: "third",
    marks.CLAIM: "uid-1",
    marks.NUMBER: "3",
    "of-the-third": "yes",
}
SETS = [
    replica_set(NOW, 1, ONE, cause="first"),
    replica_set(NOW, 3, THREE, cause="third", available=3),
    replica_set(NOW, 2, TWO, cause="second", **{marks.CLAIM: "uid-of-old"}),
    replica_set(deployment("cart"), 9, ONE),
]
REVISIONS = {one["metadata"]["name"]: template_hash(one["spec"]["template"]) for one in SETS}


def test_what_is_kept_oldest_first() -> None:
    latched = REVISIONS[SETS[2]["metadata"]["name"]]
    found = history(NOW, SETS, revisions=REVISIONS, latched={latched})
    assert [(one.number, one.change_cause, one.images, one.stable, one.latched) for one in found] == [
        (1, "first", ("shop:1",), False, False),
        (2, "second", ("shop:2",), False, True),
        (3, "third", ("shop:3",), True, False),
    ]
    assert [one.ready for one in found] == [0, 0, 3]
    assert all(one.created is not None for one in found)


@pytest.mark.parametrize(("to", "image", "cause"), [(0, "shop:2", "second"), (1, "shop:1", "first")])
def test_undo_puts_template_and_cause_back_and_keeps_our_claim(to: int, image: str, cause: str) -> None:
    patch = undo(NOW, SETS, to)
    assert patch is not None
    after = merged(NOW, patch)
    assert after["spec"]["template"]["spec"]["containers"][0]["image"] == image
    assert after["spec"]["template"]["metadata"]["labels"] == {"app": "shop"}
    assert after["metadata"]["annotations"] == {
        marks.CHANGE_CAUSE: cause,
        marks.CLAIM: "uid-1",
        marks.NUMBER: "3",
    }


def test_undo_to_what_runs_changes_nothing() -> None:
    assert undo(NOW, SETS, 3) is None


def test_undo_to_what_is_not_kept_is_refused() -> None:
    with pytest.raises(NotFound) as refusal:
        undo(NOW, SETS, 7)
    assert "1, 2, 3" in refusal.value.remedy
    with pytest.raises(BadState, match="no revision before"):
        undo(NOW, SETS[1:2])


def test_undo_of_a_paused_deployment_is_refused() -> None:
    paused = deepcopy(NOW)
    paused["spec"]["paused"] = True
    with pytest.raises(BadState, match="paused"):
        undo(paused, SETS)


# -- what others do --------------------------------------------------------------------------------


def changed(pods: dict[str, Any]) -> dict[str, Any]:
    found = deepcopy(NOW)
    found["spec"]["template"] = pods
    return found


KNOWN = {template_hash(THREE)}


def test_what_is_expected_is_no_change() -> None:
    assert changed_by_others(NOW, SETS, known=KNOWN) is None
    restarted = deepcopy(THREE)
    restarted["metadata"]["annotations"] = {marks.RESTARTED_AT: "now"}
    assert changed_by_others(changed(restarted), SETS, known=KNOWN) is None


def test_an_undo_by_hand_is_told_before_and_after_the_controller_has_seen_it() -> None:
    before = changed_by_others(changed(ONE), SETS, known=KNOWN)
    numbered = [SETS[1], SETS[2], replica_set(NOW, 4, ONE, before="1")]
    after = changed_by_others(changed(ONE), numbered, known=KNOWN)
    assert before is not None
    assert before == after
    assert before.undo_to == 1
    assert "taken back to revision 1 by hand" in before.message


def test_an_edit_is_told_before_and_after_the_controller_has_seen_it() -> None:
    other = template("shop:4")
    before = changed_by_others(changed(other), SETS, known=KNOWN)
    after = changed_by_others(changed(other), [*SETS, replica_set(NOW, 4, other)], known=KNOWN)
    assert before is not None
    assert before == after
    assert before.undo_to is None
    assert "edited by hand" in before.message
