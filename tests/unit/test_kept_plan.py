"""What restores have kept: which of it may go, and why the rest stays."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from phoenix_orch.kube.resources import Object
from phoenix_orch.recovery.restore.exchange_plan import KEPT, NOTE, PLACE
from phoenix_orch.recovery.restore.kept_plan import PROVISIONER, moment, users, volumes

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
OVER = "2026-11-28T12:00:00+00:00"


def volume(name: str = "old", **changes: Any) -> Object:
    """Released, of the claim `data` in `shops`, kept until now."""
    spec = {
        "capacity": {"storage": "1Gi"},
        "claimRef": {"namespace": "shops", "name": "data", "uid": "gone"},
        "csi": {"driver": "d", "volumeHandle": f"h-{name}"},
    }
    metadata = {
        "name": name,
        "uid": f"uid-{name}",
        "resourceVersion": "7",
        "annotations": {KEPT: changes.get("kept", OVER), PROVISIONER: "d"} | changes.get("annotations", {}),
        "labels": changes.get("labels", {}),
    }
    return {
        "metadata": metadata,
        "spec": spec | changes.get("spec", {}),
        "status": {"phase": changes.get("phase", "Released")},
    }


def claim(name: str, uid: str) -> Object:
    return {"metadata": {"name": name, "uid": uid}}


def test_one_whose_time_is_over_may_go_at_that_moment() -> None:
    (one,) = volumes([volume()], [claim("data", "new")], "shops", NOW)
    assert (one.stays, one.of, one.size, one.uid, one.version) == ("", "data", 2**30, "uid-old", "7")
    (one,) = volumes([volume()], [], "shops", NOW.replace(hour=11))
    assert one.stays == "its time has not come"
    assert volumes([volume()], [], "others", NOW) == [], "another namespace's is not told of"


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (
            volume(spec={"claimRef": {"namespace": "shops", "name": "data", "uid": "here"}}),
            "the claim data has",
        ),
        (volume(phase="Bound"), "it is Bound"),
        (
            volume(phase="Available", spec={"claimRef": {"namespace": "shops", "name": "data"}}),
            "would get it",
        ),
        (volume(spec={"claimRef": {"namespace": "shops", "name": "data"}}), "would get it"),
        (volume(kept="2026-11-28"), "no time"),
        (volume(kept="2026-11-28T12:00:00"), "no time"),
        (volume(kept=""), "no time"),
        (volume(annotations={NOTE: "{}"}), "a restore puts it"),
        (volume(labels={PLACE: "x"}), "a restore puts it"),
    ],
)
def test_what_stays(found: Object, why: str) -> None:
    (one,) = volumes([found], [claim("data", "here")], "shops", NOW)
    assert why in one.stays


def test_one_that_could_not_be_deleted_is_tried_again() -> None:
    (one,) = volumes([volume(phase="Failed")], [], "shops", NOW)
    assert one.stays == ""


def test_what_a_restore_that_has_not_ended_would_go_back_to_stays() -> None:
    note = json.dumps({"old_volume": "old", "claim": "data"})
    new = volume("new", annotations={NOTE: note})
    del new["metadata"]["annotations"][KEPT]
    (one,) = volumes([volume(), new], [], "shops", NOW)
    assert one.stays == "a restore of data has not ended"
    for torn in ("{", "[]", "null", "{}"):
        new["metadata"]["annotations"][NOTE] = torn
        (one,) = volumes([volume(), new], [], "shops", NOW)
        assert one.stays == "what a restore has noted on new cannot be read"


def test_what_two_objects_stand_for_stays() -> None:
    twin = volume("twin", spec={"csi": {"driver": "d", "volumeHandle": "h-old"}})
    assert [one.stays for one in volumes([volume(), twin], [], "shops", NOW)] == [
        "twin is the same in the storage",
        "old is the same in the storage",
    ]
    other = volume("twin", spec={"csi": {"driver": "another", "volumeHandle": "h-old"}})
    assert [one.stays for one in volumes([volume(), other], [], "shops", NOW)] == ["", ""]


def test_a_claim_of_a_stateful_set_is_used_beyond_its_size_of_now() -> None:
    template = {"metadata": {}, "spec": {"containers": []}}
    workload = {
        "kind": "StatefulSet",
        "metadata": {"name": "shop"},
        "spec": {
            "replicas": 0,
            "template": template,
            "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
        },
    }
    found = users([workload], [], ["data-shop-4", "data"])
    assert found == {"data-shop-4": ["StatefulSet shop"], "data": []}


def test_a_moment_has_a_zone() -> None:
    assert moment(OVER) == NOW
    assert moment("for ever") is None
