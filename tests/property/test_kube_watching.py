"""The pure pieces of a watched cache: lines, the difference of two lists, and any history with gaps."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from phoenix_orch.kube.resources import Key, Object
from phoenix_orch.kube.snapshot import Snapshot, identities
from phoenix_orch.kube.watch_events import LONGEST_LINE, Lines, Unreadable, event_of


def an_object(name: str, uid: str, version: int) -> Object:
    return {"metadata": {"name": name, "namespace": "shop", "uid": uid, "resourceVersion": str(version)}}


events = st.lists(
    st.builds(
        lambda kind, text, version: {"type": kind, "object": {**an_object("a", "u", version), "data": text}},
        st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]),
        st.text(),
        st.integers(1, 10**9),
    ),
    max_size=6,
)


@given(events, st.lists(st.integers(0, 2000), max_size=12))
def test_however_the_network_cuts_the_events_are_the_same(sent: list[Object], cuts: list[int]) -> None:
    stream = b"".join(json.dumps(event).encode() + b"\n" for event in sent)
    lines, got, at = Lines(), [], 0
    for cut in [*sorted(cut for cut in cuts if cut <= len(stream)), len(stream)]:
        got += [event_of(line) for line in lines.feed(stream[at:cut])]
        at = cut
    assert [{"type": event.type, "object": event.object} for event in got] == sent
    assert not lines.unfinished


@given(events.filter(bool), st.data())
def test_half_a_line_is_no_event(sent: list[Object], data: st.DataObject) -> None:
    line = json.dumps(sent[0]).encode()
    half = line[: data.draw(st.integers(1, len(line) - 1))]
    lines = Lines()
    assert list(lines.feed(half)) == []
    assert lines.unfinished
    with pytest.raises(Unreadable):
        event_of(half)


@pytest.mark.parametrize(
    "line",
    [
        b"}{",
        b"[]",
        b"{}",
        b'{"type":"ADDED"}',
        b'{"type":"ADDED","object":{}}',
        b'{"type":"ADDED","object":{"metadata":null}}',
        b'{"type":"LOUDER","object":{"metadata":{"resourceVersion":"1"}}}',
        b"\xff",
    ],
)
def test_what_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(Unreadable):
        event_of(line)


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    lines = Lines()
    for _ in range(LONGEST_LINE // 2**20):
        assert list(lines.feed(b"x" * 2**20)) == []
    with pytest.raises(Unreadable, match="a line of more than"):
        list(lines.feed(b"x"))


class Cluster(RuleBasedStateMachine):
    """A cluster, and a cache of it that is told some of what happens, and lists after a gap."""

    def __init__(self) -> None:
        super().__init__()
        self.there: dict[str, Object] = {}
        self.clock = 0
        self.watching = True
        self.cache = Snapshot()
        self.reader: dict[Key, tuple[str, str]] = {}
        """What somebody knows who looks at the cache whenever told of a key."""

    def tell(self, *keys: Key | None) -> None:
        for key in filter(None, keys):
            found = self.cache.objects.get(key)
            if found is None:
                self.reader.pop(key, None)
            else:
                self.reader |= identities([found])

    @rule(name=st.sampled_from("abcdef"))
    def write(self, name: str) -> None:
        self.clock += 1
        uid = self.there[name]["metadata"]["uid"] if name in self.there else f"u{self.clock}"
        self.there[name] = an_object(name, uid, self.clock)
        if self.watching:
            self.tell(self.cache.put(self.there[name]))

    @precondition(lambda self: self.there)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        gone = self.there.pop(data.draw(st.sampled_from(sorted(self.there))))
        self.clock += 1
        if self.watching:
            self.tell(self.cache.remove(gone))

    @rule()
    def replay(self) -> None:
        """After a resumed watch an event may come that is known."""
        if self.watching:
            for found in self.there.values():
                assert self.cache.put(found) is None

    @rule()
    def break_watch(self) -> None:
        self.watching = False

    @rule()
    def list_anew(self) -> None:
        self.tell(*self.cache.replace({Key("shop", name): found for name, found in self.there.items()}))
        self.watching = True

    @rule()
    def go_back_in_time(self) -> None:
        """The cluster is restored from a backup: everything gets a lower version."""
        self.there = {
            name: an_object(name, found["metadata"]["uid"], 0) for name, found in self.there.items()
        }
        self.watching = False

    @invariant()
    def nothing_is_missed(self) -> None:
        truth = identities(self.there.values())
        differing = self.cache.differing(truth)
        if self.watching:
            assert not differing
            assert self.reader == truth
        assert bool(differing) == (identities(self.cache.objects.values()) != truth)


TestCluster = Cluster.TestCase
