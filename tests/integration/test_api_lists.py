"""Pages of lists, versions of answers, the configuration, who asks."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.integration.fake_phoenix import APPLIED, NOW, FakeOperations, serving, view
from tests.integration.known import admin

from phoenix_orch.api import pages
from phoenix_orch.api.server import create_app
from phoenix_orch.client import Client
from phoenix_orch.kernel.errors import Invalid, NotFound, Outdated
from phoenix_orch.kernel.masking import Masker
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.rollout.status import Event, Release, State

CONFIG = {"services": {"web": {"command": "a {port}"}}, "routes": {"web": {"service": "web"}}}


class Many(FakeOperations):
    """Seven rollouts, events two of which are of one moment, and three releases."""

    async def views(self, *, after="", limit=None):
        found = [view(State.PROGRESSING, name=f"web-{number}") for number in range(7)]
        return [one for one in found if one.rollout.name > after][:limit]

    async def services(self):
        return [(await self.service("web")).model_copy(update={"name": f"s{number}"}) for number in (2, 0, 1)]

    async def events(self, name, limit):
        minutes = (0, 1, 1, 2, 3)
        found = [
            Event(at=NOW + timedelta(minutes=minute), reason=f"N{number}", message="x")
            for number, minute in enumerate(minutes)
        ]
        return found[-limit:]

    async def history(self, name, limit):
        (_, first) = await super().history(name, 2)
        releases: list[Release] = [first.model_copy(update={"number": number}) for number in (5, 3, 2)]
        return releases[:limit]

    async def observations(self, name, since, limit):
        (one,) = await super().observations(name, since, limit)
        found = [one.model_copy(update={"t1": NOW + timedelta(seconds=10 * n)}) for n in range(5)]
        return found[-limit:]


@pytest.fixture
def operations():
    return Many()


@pytest.fixture
async def http(operations):
    transport = httpx.ASGITransport(create_app(operations, Masker(b"k" * 32), authenticators=(admin,)))
    async with httpx.AsyncClient(transport=transport, base_url="http://phoenix/api/v1/") as http:
        yield http


async def walk(http, path):
    """All pages of a list."""
    found = []
    while path:
        answer = await http.get(path)
        assert answer.status_code == 200, answer.text
        found.append(answer.json())
        path = answer.links.get("next", {}).get("url", "")
        path = path and f"http://phoenix{path}"
    return found


async def test_lists_by_name_go_on_behind_the_last(http):
    found = await walk(http, "rollouts?limit=3")
    names = ["".join(one["rollout"]["name"][-1] for one in page) for page in found]
    assert names == ["012", "345", "6"]
    found = await walk(http, "services?limit=2")
    assert [[one["name"] for one in page] for page in found] == [["s0", "s1"], ["s2"]]
    found = await walk(http, "rollouts/web/revisions?limit=1")
    assert [[one["number"] for one in page] for page in found] == [[1], [2]]


@pytest.mark.parametrize("path", ["rollouts/web/events", "events"])
async def test_lists_by_time_go_back_from_the_newest(http, path):
    found = await walk(http, f"{path}?limit=2")
    if path == "events":
        assert {one["rollout"] for page in found for one in page} == {"web"}
    assert [[one["reason"] for one in page] for page in found] == [["N3", "N4"], ["N1", "N2"], ["N0"]]


async def test_history_and_observations_go_back_too(http):
    found = await walk(http, "rollouts/web/history?limit=2")
    assert [[one["number"] for one in page] for page in found] == [[5, 3], [2]]
    found = await walk(http, "rollouts/web/observations?limit=2")
    assert [len(page) for page in found] == [2, 2, 1]
    until = (NOW + timedelta(seconds=20)).isoformat()
    (found,) = await walk(http, httpx.URL("rollouts/web/observations", params={"until": until}))
    assert len(found) == 3


RECORDS = ("events", "history", "observations")
NO_CURSORS = ("!!", "a", "é", *map(pages.encode, ('{"a"', "[]", "-1")))


@pytest.mark.parametrize("path", [*(f"rollouts/web/{one}" for one in RECORDS), "rollouts"])
@pytest.mark.parametrize("cursor", NO_CURSORS)
async def test_what_is_no_cursor_is_refused(http, path, cursor):
    answer = await http.get(path, params={"cursor": cursor})
    if path == "rollouts" and cursor.isascii() and cursor not in ("!!", "a"):
        assert answer.status_code == 200  # any text is behind some names
    else:
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 7), st.integers(0, 10))
def test_a_walk_back_gives_everything_once_while_more_is_added(minutes, limit, added):
    items = [
        Event(at=NOW + timedelta(minutes=minute), reason="N", message=str(number))
        for number, minute in enumerate(sorted(minutes))
    ]
    seen, place, first = [], "", True
    while first or place:
        first = False
        page, place = pages.older(items, place, limit, lambda event: event.at)
        seen = page + seen
        if added:
            added -= 1
            items = [*items, Event(at=NOW + timedelta(hours=1), reason="new", message=str(len(items)))]
    assert [event.message for event in seen] == [str(number) for number in range(len(minutes))]


@given(st.text(max_size=60))
def test_a_cursor_holds_any_place(place):
    if place.encode("utf-8", "replace").decode() == place:
        assert pages.decode(pages.encode(place)) == place


async def test_an_answer_that_is_known_already_is_not_sent_again(http):
    first = await http.get("rollouts/web/revisions")
    version = first.headers["etag"]
    again = await http.get("rollouts/web/revisions", headers={"If-None-Match": f'"x", W/{version}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", version)
    other = await http.get("rollouts/web/revisions", headers={"If-None-Match": '"x"'})
    assert (other.status_code, other.content) == (200, first.content)
    assert "etag" not in (await http.get("rollouts/nope")).headers


async def test_the_configuration_is_masked_and_has_a_version(http, operations):
    answer = await http.get("config")
    assert answer.json()["services"]["web"]["env"]["LEVEL"].startswith("<masked:")
    version = answer.headers["etag"]
    assert (await http.get("config")).headers["etag"] == version
    applied = {**APPLIED, "services": {"web": {**APPLIED["services"]["web"], "env": {"LEVEL": "other"}}}}
    operations.applied = PhoenixFile.model_validate(applied)
    assert (await http.get("config")).headers["etag"] != version
    refused = await http.post("apply", json={"config": CONFIG}, headers={"If-Match": version})
    assert (refused.status_code, refused.json()["code"]) == (412, "outdated")
    assert operations.calls == []
    version = (await http.get("config")).headers["etag"]
    done = await http.post("apply", json={"config": CONFIG}, headers={"If-Match": version})
    assert done.status_code == 200
    operations.applied = None
    assert (await http.get("config")).status_code == 404
    assert (await http.post("apply", json={"config": CONFIG}, headers={"If-Match": "*"})).status_code == 412


async def test_who_asks_is_told_who_they_are(http):
    assert (await http.get("identity")).json()["grants"] == [{"role": "admin", "namespace": "*"}]


def test_the_client_reads_all_pages_and_applies_what_it_expects(operations, tmp_path, monkeypatch):
    with serving(operations, tmp_path), Client(tmp_path) as client:
        monkeypatch.setattr(Client._pages, "__defaults__", None)
        assert len(client.rollouts()) == 7
        assert [event.reason for event in client.all_events(limit=2)] == ["N3", "N4"]
        assert client.identity().grants[0].role == "admin"
        found = client.config()
        config = PhoenixFile.model_validate(CONFIG)
        with pytest.raises(Outdated):
            client.apply(config, expect="elsewhere")
        assert client.apply(config, expect=found.version)
        operations.applied = None
        with pytest.raises(NotFound):
            client.config()


def test_a_place_of_another_list_is_refused():
    with pytest.raises(Invalid):
        pages.number(pages.encode("web"))
