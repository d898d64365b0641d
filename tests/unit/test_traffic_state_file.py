import json

import pytest

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.testing.router_contract import NEW, OLD
from phoenix_orch.traffic.router import Backend, Group, TrafficState
from phoenix_orch.traffic.spec import RouteSpec
from phoenix_orch.traffic.state_file import MARK, Reading, RouteObject, Table, decode, encode, marker, merged

STATE = TrafficState(route="web", version=7, stable=OLD, canary=NEW, weight=5, aborted=("bad",))
ROUTE = RouteObject(spec=RouteSpec(service="web", host="a.b"), state=STATE)
API = RouteSpec(service="api", path_prefix="/api")
TABLE = Table({"web": ROUTE}, {"api": API})
NOTHING = Reading()


def later(version: int, **changes: object) -> RouteObject:
    return ROUTE.model_copy(update={"state": STATE.model_copy(update={"version": version, **changes})})


def test_a_line_for_each_route_says_everything() -> None:
    text = encode(TABLE)
    first, second, rest = text.split("\n", 2)
    assert first.startswith(MARK)
    assert second.startswith(MARK)
    http = json.loads(rest)["http"]
    assert "web.canary.new" in http["services"]
    assert set(http["routers"]) == {"web", "api"}
    assert marker(TABLE) in http["middlewares"]
    assert decode(text) == Reading(TABLE)


def test_a_latch_alone_does_not_start_the_wheel_anew() -> None:
    more = Table({"web": later(8, aborted=("bad", "worse"))}, {"api": API})
    assert marker(more) == marker(TABLE)
    assert encode(more) != encode(TABLE)


@pytest.mark.parametrize("text", ["", "\n \n", encode(Table())])
def test_an_emptied_file_says_nothing(text: str) -> None:
    assert decode(text) == NOTHING


@pytest.mark.parametrize("text", ["http: {}\n", "# made by hand\nhttp: {}", "#phoenix: {}", " " + MARK])
def test_a_file_without_our_mark_is_not_ours(text: str) -> None:
    assert decode(text) == Reading(ours=False)


def test_a_line_that_is_cut_is_left_out_and_the_others_stay() -> None:
    first, rest = encode(TABLE).split("\n", 1)
    for length in range(len(MARK), len(first) - 1):
        assert decode(f"{first[:length]}\n{rest}") == Reading(Table({}, {"api": API}))


@pytest.mark.parametrize("header", ["[]", "{}", "null", '{"format":2}', '{"format":2,"spec":{},"state":{}}'])
def test_a_line_of_another_shape_is_left_out(header: str) -> None:
    assert decode(f"{MARK}0 {header}\n") == NOTHING


def test_the_format_of_a_later_release_is_left_alone() -> None:
    with pytest.raises(Invalid, match="format is 3"):
        decode(f'{MARK}0 {{"format":3,"new":true}}\n')


@pytest.mark.parametrize(
    ("before", "after"),
    [('"weight":5', '"weight":50'), ('["bad"]', "[]"), ("20003", "20009"), ('"version":7', '"version":1')],
)
def test_a_line_changed_by_hand_is_told(before: str, after: str) -> None:
    text = encode(TABLE)
    assert before in text
    found = decode(text.replace(before, after, 1))
    assert set(found.edited) == {"web"}
    assert merged(found, Reading(TABLE)) == TABLE, "the copy is better"
    assert merged(found, NOTHING).routes == found.edited, "but for want of one it is believed"


def test_a_route_that_waits_is_not_believed_when_its_line_was_changed() -> None:
    found = decode(encode(TABLE).replace('"waiting":"api"', '"waiting":"apx"'))
    assert found.table.waiting == {}
    assert merged(found, Reading(TABLE)) == TABLE


def test_a_line_that_traefik_could_misread_is_never_believed() -> None:
    found = decode(encode(TABLE).replace('"new"', '"n{{w"'))
    assert "web" in found.edited
    assert merged(found, NOTHING).routes == {}


def test_an_earlier_state_that_was_put_back_does_not_lose_what_came_later() -> None:
    latched = Reading(Table({"web": later(9, aborted=("bad", "new"), weight=0)}))
    assert merged(Reading(TABLE), latched).routes == latched.table.routes
    assert merged(Reading(Table()), latched).routes == latched.table.routes
    assert merged(latched, Reading(TABLE)).routes == latched.table.routes, "the copy may lag behind"


def test_a_route_with_an_object_does_not_wait() -> None:
    waiting = Reading(Table({}, {"web": API}))
    assert merged(waiting, Reading(Table({"web": ROUTE}))).waiting == {}
    assert Table({}, {"web": API}).holding("web", ROUTE) == Table({"web": ROUTE}, {})


@pytest.mark.parametrize(("before", "after"), [('"weight": 225', '"weight": 50'), ("\n{", "\n\n{")])
def test_a_body_changed_by_hand_is_not_what_is_written(before: str, after: str) -> None:
    text = encode(TABLE)
    assert before in text
    changed = text.replace(before, after, 1)
    assert encode(merged(decode(changed), NOTHING)) == text != changed


def test_template_braces_never_reach_traefik() -> None:
    odd = Group(revision="old", backends=(Backend(instance="{{{{ env }}", url="http://127.0.0.1:1"),))
    route = RouteObject(spec=RouteSpec(service="web"), state=TrafficState(route="web", stable=odd))
    text = encode(Table({"web": route}))
    assert "{{" not in text
    assert decode(text).table.routes == {"web": route}
