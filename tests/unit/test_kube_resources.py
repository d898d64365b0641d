"""Where objects are, patches that hold for one version only, and what of an object is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kube.patches import JSON_PATCH, json_patch, merge_patch, pointer, test, tests_hold
from phoenix_orch.kube.pruning import without, without_bookkeeping
from phoenix_orch.kube.resources import (
    ALL_NAMESPACES,
    DEPLOYMENTS,
    NAMESPACES,
    PODS,
    Object,
    older,
)

test.__test__ = False  # type: ignore[attr-defined]  # an operation of a patch, not one of these
tests_hold.__test__ = False  # type: ignore[attr-defined]


def test_paths() -> None:
    assert PODS.path("shop", "web-1", "status") == "/api/v1/namespaces/shop/pods/web-1/status"
    assert PODS.path(ALL_NAMESPACES) == "/api/v1/pods"
    assert DEPLOYMENTS.path("shop") == "/apis/apps/v1/namespaces/shop/deployments"
    assert NAMESPACES.path("", "shop") == "/api/v1/namespaces/shop"


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../secrets/token"])
def test_a_name_leads_nowhere_else(name: str) -> None:
    with pytest.raises(Invalid, match="no name"):
        PODS.path("shop", name)
    with pytest.raises(Invalid, match="no name"):
        PODS.path(name)


def test_a_name_without_a_namespace_is_refused() -> None:
    with pytest.raises(Invalid, match="needs a namespace"):
        PODS.path("", "web-1")


def test_a_merge_patch_always_carries_the_version() -> None:
    patch = merge_patch({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 2}}, version="7")
    assert patch.body == {
        "metadata": {"labels": {"a": "b"}, "resourceVersion": "7"},
        "spec": {"replicas": 2},
    }


def test_a_json_patch_has_a_condition() -> None:
    with pytest.raises(ValueError, match="version or a test"):
        json_patch([{"op": "add", "path": "/a", "value": 1}])
    patch = json_patch([{"op": "remove", "path": "/a"}], version="7")
    assert patch.content_type == JSON_PATCH
    assert patch.body[0] == {"op": "test", "path": "/metadata/resourceVersion", "value": "7"}


def test_whether_tests_hold_is_seen_on_the_object() -> None:
    found: Object = {"metadata": {"annotations": {"a/b~c": "5"}}, "list": [1, {"x": 2}]}
    at = pointer("metadata", "annotations", "a/b~c")
    assert at == "/metadata/annotations/a~1b~0c"
    assert tests_hold(json_patch([test(at, "5"), test("/list/1/x", 2), test("/none/at/all", None)]), found)
    for wrong in (test(at, "6"), test("/list/2", 1), test("/list/x", 1), test("/metadata/annotations/q", "")):
        assert not tests_hold(json_patch([wrong]), found)


@given(
    st.recursive(st.text(), lambda parts: st.dictionaries(st.text(), parts, min_size=1), max_leaves=8),
    st.data(),
)
def test_a_pointer_leads_to_its_value(found: Object | str, data: st.DataObject) -> None:
    here, parts = found, []
    while isinstance(here, dict):
        parts.append(data.draw(st.sampled_from(sorted(here))))
        here = here[parts[-1]]
    if parts:
        assert isinstance(found, dict)
        assert tests_hold(json_patch([test(pointer(*parts), here)]), found)


def test_bookkeeping_is_not_kept() -> None:
    found = without_bookkeeping(
        {
            "metadata": {
                "name": "web",
                "managedFields": [{}],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "kept": "yes"},
            }
        }
    )
    assert found == {"metadata": {"name": "web", "annotations": {"kept": "yes"}}}


def test_chosen_fields_are_not_kept() -> None:
    prune = without("spec.template.spec", "status", "spec.nowhere.else")
    found = prune({"metadata": {}, "spec": {"template": {"spec": {}, "metadata": {}}}, "status": {}})
    assert found == {"metadata": {}, "spec": {"template": {"metadata": {}}}}


@given(st.integers(0, 10**18), st.integers(0, 10**18))
def test_versions_are_ordered_as_numbers(one: int, other: int) -> None:
    assert older(str(one), str(other)) == (one < other)
    assert not older("abc", str(one))
