"""Who may be in the way of a canary Ingress: nobody is overlooked by looking at a few."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.kube_objects import ingress, path

from phoenix_orch.traffic import ingress_plan as plan
from phoenix_orch.traffic.ingress_plan import CANARY, IngressRecord
from phoenix_orch.traffic.kube_spec import IngressTraffic
from phoenix_orch.traffic.router import Group, TrafficState

hosts = st.sampled_from(["", "a.example.com", "b.example.com"])
services = st.sampled_from(["shop", "shop-canary", "other"])
rules = st.lists(st.tuples(hosts, st.builds(path, services, st.sampled_from(["/", "/x"]))), max_size=2)


@st.composite
def ingresses(draw: st.DrawFn) -> dict[str, Any]:
    annotations = {CANARY: "true"} if draw(st.booleans()) else {}
    made = ingress(draw(st.sampled_from("pqr")), *draw(rules), annotations=annotations)
    if draw(st.booleans()):
        made["spec"]["defaultBackend"] = {"service": {"name": draw(services), "port": {"number": 80}}}
    return {"kind": "Ingress", **made}


@given(rules, st.lists(ingresses(), max_size=5))
def test_those_with_a_word_in_common_are_all_that_can_conflict(
    mine: list[tuple[str, dict[str, Any]]], others: list[dict[str, Any]]
) -> None:
    main = {"kind": "Ingress", **ingress("shop", ("a.example.com", path("shop")), *mine)}
    spec = IngressTraffic(ingress="shop", service="shop", canary_service="shop-canary")
    nothing = TrafficState(route="shop", stable=Group(revision="a"))
    record = IngressRecord(state=nothing, spec=spec, canary_service="shop-canary", made=True)
    wanted = plan.wanted(main, None, record)
    near = [one for one in others if plan.rivalry(one) & plan.rivals(record, wanted)]
    told, full = (plan.conflict(main, "shop-canary", record, wanted, found) for found in (near, others))
    assert (told and told.message) == (full and full.message)
