"""What is written for snapshots of volumes, and what is made of what was found."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.recovery.sources.snapshot_plan import (
    Taken,
    choose_class,
    claim_from,
    driver_of,
    quantity,
    read_back,
    seen,
    statically,
)


def of(name: str, driver: str = "d", *, default: bool = False) -> dict[str, Any]:
    annotations = {"snapshot.storage.k8s.io/is-default-class": "true"} if default else {}
    return {"metadata": {"name": name, "annotations": annotations}, "driver": driver}


def test_the_class_is_found_by_name_default_or_as_the_only_one() -> None:
    classes = [of("a"), of("b", default=True), of("c", "other", default=True)]
    assert choose_class(classes, "d") == "b"
    assert choose_class(classes, "d", "a") == "a"
    assert choose_class([of("a"), of("c", "other")], "d") == "a"


@pytest.mark.parametrize(
    ("classes", "named", "said"),
    [
        ([], "", "no VolumeSnapshotClasses"),
        ([of("a", "other")], "", "no VolumeSnapshotClasses"),
        ([of("a"), of("b")], "", r"2 VolumeSnapshotClasses.*name one: a, b"),
        ([of("a", default=True), of("b", default=True)], "", "2 VolumeSnapshotClasses"),
        ([of("a", "other")], "a", "no VolumeSnapshotClass a of the driver d"),
    ],
)
def test_classes_that_leave_a_doubt(classes: list[Any], named: str, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        choose_class(classes, "d", named)


def test_a_volume_without_csi() -> None:
    with pytest.raises(Invalid, match="no CSI volume"):
        driver_of({"metadata": {"name": "pv"}, "spec": {"hostPath": {"path": "/x"}}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10Gi", 10 * 2**30),
        ("1.5Gi", 3 * 2**29),
        ("1e9", 10**9),
        ("1E", 10**18),
        ("2Ei", 2**61),
        ("500k", 500_000),
        ("1500m", 2),
        ("0", 0),
        (1024, 1024),
    ],
)
def test_amounts_of_storage(text: object, expected: int) -> None:
    assert quantity(text) == expected


@pytest.mark.parametrize("text", ["", "Gi", "1Qi", "1 Gi", "x", "1i"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(Invalid):
        quantity(text)


SNAPSHOT: dict[str, Any] = {
    "metadata": {"name": "s", "uid": "u1"},
    "status": {"boundVolumeSnapshotContentName": "c", "readyToUse": True},
}
CONTENT: dict[str, Any] = {
    "metadata": {"name": "c"},
    "spec": {"volumeSnapshotRef": {"uid": "u1"}},
    "status": {"snapshotHandle": "h"},
}


def test_ready_is_bound_both_ways_and_without_an_error() -> None:
    assert seen(SNAPSHOT, CONTENT) is None
    for snapshot, content, said in (
        ({"metadata": {"name": "s", "uid": "u1"}}, None, "no snapshot controller"),
        (SNAPSHOT, None, "is not there"),
        (SNAPSHOT, {**CONTENT, "metadata": {"name": "x"}}, "is not there"),
        (SNAPSHOT, {**CONTENT, "spec": {"volumeSnapshotRef": {"uid": "u2"}}}, "another snapshot"),
        (SNAPSHOT, {**CONTENT, "status": {}}, "still at it"),
        (SNAPSHOT, {**CONTENT, "status": {"error": {"message": "no"}}}, "says: no"),
        ({**SNAPSHOT, "status": {**SNAPSHOT["status"], "readyToUse": False}}, CONTENT, "still at it"),
        ({**SNAPSHOT, "status": {**SNAPSHOT["status"], "error": {"message": "x"}}}, CONTENT, "says: x"),
    ):
        waiting = seen(snapshot, content)
        assert waiting is not None
        assert said in waiting.reason


names = st.text("abc-", min_size=1, max_size=60)
descriptions = st.builds(
    Taken,
    namespace=names,
    claim=names,
    snapshot=names,
    content=names,
    handle=st.text(min_size=1),
    driver=names,
    snapshot_class=names,
    restore_size=st.integers(0, 2**60),
    size=st.integers(0, 2**60),
    created=st.just("2026-11-28T12:00:00+00:00"),
    labels=st.dictionaries(names, names, max_size=3),
)


@given(one=descriptions)
def test_a_description_comes_back(one: Taken) -> None:
    assert read_back(one.stored()) == one


@given(one=descriptions, namespace=names, suffix=names)
def test_a_claim_is_never_too_small_and_content_and_snapshot_name_each_other(
    one: Taken, namespace: str, suffix: str
) -> None:
    claim = claim_from(one, "s", "new", namespace, suffix)
    assert int(claim["spec"]["resources"]["requests"]["storage"]) == max(one.size, one.restore_size)
    content, snapshot = statically(one, namespace, suffix)
    assert content["spec"]["volumeSnapshotRef"]["name"] == snapshot["metadata"]["name"]
    assert snapshot["spec"]["source"]["volumeSnapshotContentName"] == content["metadata"]["name"]
    assert content["spec"]["deletionPolicy"] == "Retain"
    assert len(content["metadata"]["name"]) <= 253
