import json

import pytest

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.testing.router_contract import NEW, OLD
from phoenix_orch.traffic.router import Backend, Group, TrafficState
from phoenix_orch.traffic.spec import RouteSpec
from phoenix_orch.traffic.state_file import MARK, Edited, NotOurs, RouteObject, Torn, decode, encode

STATE = TrafficState(route="web", version=7, stable=OLD, canary=NEW, weight=5, aborted=("bad",))
ROUTE = RouteObject(spec=RouteSpec(service="web", host="a.b"), state=STATE)


def test_the_first_line_says_everything() -> None:
    text = encode(ROUTE)
    first, rest = text.split("\n", 1)
    assert first.startswith(MARK)
    assert "web.canary.new" in json.loads(rest)["http"]["services"]
    assert decode(text) == ROUTE


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_emptied_file_is_torn(text: str) -> None:
    with pytest.raises(Torn, match="empty"):
        decode(text)


@pytest.mark.parametrize("text", ["http: {}\n", "# made by hand\nhttp: {}", "#phoenix: {}", " " + MARK])
def test_a_file_without_our_mark_is_not_ours(text: str) -> None:
    with pytest.raises(NotOurs, match="did not write"):
        decode(text)


def test_a_file_cut_in_its_first_line_is_torn() -> None:
    first = encode(ROUTE).split("\n", 1)[0]
    for length in range(len(MARK), len(first) - 1):
        with pytest.raises(Torn, match="first line"):
            decode(first[:length])


@pytest.mark.parametrize("header", ["[]", "{}", "null", '{"format":1}', '{"format":1,"spec":{},"state":{}}'])
def test_a_first_line_of_another_shape_is_torn(header: str) -> None:
    with pytest.raises(Torn, match="first line"):
        decode(f"{MARK}0 {header}\n")


def test_the_format_of_a_later_release_is_left_alone() -> None:
    with pytest.raises(Invalid, match="format is 2") as raised:
        decode(f'{MARK}0 {{"format":2,"new":true}}\n')
    assert not isinstance(raised.value, Torn)


@pytest.mark.parametrize(
    ("before", "after"),
    [('"weight":5', '"weight":50'), ('["bad"]', "[]"), ("20003", "20009"), ('"version":7', '"version":1')],
)
def test_a_first_line_changed_by_hand_is_told(before: str, after: str) -> None:
    text = encode(ROUTE)
    assert before in text
    with pytest.raises(Edited) as raised:
        decode(text.replace(before, after, 1))
    assert raised.value.route.state.drifted


@pytest.mark.parametrize(("before", "after"), [('"weight": 5', '"weight": 50'), ("\n{", "\n\n{")])
def test_a_body_changed_by_hand_is_drift(before: str, after: str) -> None:
    text = encode(ROUTE)
    assert before in text
    assert decode(text.replace(before, after, 1)).state == STATE.model_copy(update={"drifted": True})


def test_a_cut_body_is_drift() -> None:
    text = encode(ROUTE)
    assert decode(text[:-30]).state == STATE.model_copy(update={"drifted": True})


def test_template_braces_never_reach_traefik() -> None:
    odd = Group(revision="old", backends=(Backend(instance="{{{{ env }}", url="http://127.0.0.1:1"),))
    route = RouteObject(spec=RouteSpec(service="web"), state=TrafficState(route="web", stable=odd))
    assert "{{" not in encode(route)
    assert decode(encode(route)) == route
