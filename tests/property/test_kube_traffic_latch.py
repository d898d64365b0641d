"""Rule R4 over the routers of a cluster: the stories of `test_traffic_latch.py`, on an API server where
others write in between."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.test_traffic_latch import run, steps
from tests.unit.test_kube_routers import Setting

from phoenix_orch.traffic.kube_router import ATTEMPTS
from phoenix_orch.traffic.router import TrafficRouter

stories = st.lists(steps, max_size=20)
touches = st.lists(st.booleans(), max_size=20)


def disturbed(kind: str, touched: list[bool]) -> TrafficRouter:
    """A router before whose patches somebody may change a label, but lets each write through in the end."""
    setting, left = Setting(kind), list(touched)
    in_a_row = 0

    def touch(verb: str, name: str) -> None:
        nonlocal in_a_row
        if verb != "patch":
            return
        in_a_row = in_a_row + 1 if left and left.pop() and in_a_row < ATTEMPTS - 1 else 0
        if in_a_row:
            setting.api.edit(*setting.carrier, {"metadata": {"labels": {"touched": str(len(left))}}})

    setting.api.before = touch
    return setting.router


@settings(max_examples=60)
@given(stories, touches)
def test_ingress(story: list[tuple[object, ...]], touched: list[bool]) -> None:
    run(lambda: disturbed("ingress", touched), story)


@settings(max_examples=60)
@given(stories, touches)
def test_gateway(story: list[tuple[object, ...]], touched: list[bool]) -> None:
    run(lambda: disturbed("gateway", touched), story)
