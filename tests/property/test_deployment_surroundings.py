"""Who selects a pod: the index finds what a look at everything would."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.kube.cache import Cache
from phoenix_orch.kube.client import Selection
from phoenix_orch.kube.resources import DISRUPTION_BUDGETS, SERVICES, Resource
from phoenix_orch.workload.deployment.selectors import Surroundings
from phoenix_orch.workload.kubernetes_objects import Around

pairs = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), max_size=3)
expressions = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from("abc"),
            "operator": st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
            "values": st.lists(st.sampled_from("xy"), max_size=2),
        }
    ),
    max_size=2,
)
selectors = st.fixed_dictionaries({"matchLabels": pairs, "matchExpressions": expressions})


def selecting(kind: str, number: int, selector: Any) -> dict[str, Any]:
    metadata = {"name": f"{kind}{number}", "namespace": "shops", "resourceVersion": "1"}
    return {"metadata": metadata, "spec": {"selector": selector}}


def cache(resource: Resource, found: list[dict[str, Any]]) -> Cache:
    made = Cache(Selection(resource, "shops"))
    for one in found:
        made.put(one)
    return made


@given(st.lists(pairs, max_size=5), st.lists(selectors, max_size=5), pairs, pairs)
def test_the_index_leaves_nobody_out(
    services: list[dict[str, str]],
    budgets: list[dict[str, Any]],
    pod: dict[str, str],
    other: dict[str, str],
) -> None:
    there = [selecting("s", number, selector) for number, selector in enumerate(services)]
    limits = [selecting("b", number, selector) for number, selector in enumerate(budgets)]
    around = Around(cache(SERVICES, there), cache(DISRUPTION_BUDGETS, limits))
    found = around.pods_with("shops", pod, other)
    everybody = Surroundings(there, limits)
    for pods in (pod, other):
        assert list(found.selecting(pods)) == list(everybody.selecting(pods))
    assert all(around.service("shops", one["metadata"]["name"]) is one for one in there)
    assert list(around.pods_with("elsewhere", pod).selecting(pod)) == []
