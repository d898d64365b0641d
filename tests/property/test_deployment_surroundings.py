"""Who selects a pod: the index finds what a look at everything would."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.workload.deployment.selectors import Surroundings, selects, service_selector

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


def service(number: int, selector: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"name": f"s{number}"}, "spec": {"selector": selector}}


def budget(number: int, selector: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": f"b{number}"}, "spec": {"selector": selector}}


@given(st.lists(pairs, max_size=5), st.lists(selectors, max_size=5), pairs)
def test_the_index_leaves_nobody_out(
    services: list[dict[str, str]], budgets: list[dict[str, Any]], pod: dict[str, str]
) -> None:
    there = [service(number, selector) for number, selector in enumerate(services)]
    limits = [budget(number, selector) for number, selector in enumerate(budgets)]
    naive = [f"Service {one['metadata']['name']}" for one in there if selects(service_selector(one), pod)] + [
        f"PodDisruptionBudget {one['metadata']['name']}"
        for one in limits
        if selects(one["spec"]["selector"], pod)
    ]
    around = Surroundings(there, limits)
    assert [what for what, _ in around.selecting(pod)] == naive
    assert all(around.service(one["metadata"]["name"]) is one for one in there)
