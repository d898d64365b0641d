"""Any table goes into the file and comes out again; no cut or changed byte goes unnoticed."""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.traffic.router import Backend, Group, TrafficState
from phoenix_orch.traffic.spec import RouteSpec
from phoenix_orch.traffic.state_file import MARK, Reading, RouteObject, Table, decode, encode, merged

names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
revisions = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,12}", fullmatch=True)
urls = st.integers(1, 65535).map(lambda port: f"http://127.0.0.1:{port}")
# Instances are free text: braces, quotes, line ends and whatever else might break a file.
texts = st.text(max_size=12) | st.sampled_from(
    ["{{", "{{{{{", "}}", "\n", "# ", '"', "\\", "\u2028", "{\\u007b"]
)
backends = st.builds(Backend, instance=texts, url=urls)
groups = st.builds(Group, revision=revisions, backends=st.lists(backends, max_size=3).map(tuple))
states = st.builds(
    TrafficState,
    route=names,
    version=st.integers(0, 10**9),
    stable=groups,
    canary=st.none() | groups,
    previous=st.none() | groups,
    weight=st.integers(0, 100),
    aborted=st.lists(texts, max_size=4).map(tuple),
)
specs = st.builds(
    RouteSpec,
    service=names,
    host=st.none() | st.just("shop.example.com"),
    path_prefix=st.sampled_from(["/", "/api", "/a/b"]),
)
objects = st.builds(RouteObject, spec=specs, state=states)
tables = st.builds(
    lambda routes, waiting: Table({route.state.route: route for route in routes}, waiting),
    st.lists(objects, min_size=1, max_size=3),
    st.dictionaries(names, specs, max_size=2),
).map(lambda table: Table(table.routes, {n: s for n, s in table.waiting.items() if n not in table.routes}))


@given(tables)
def test_what_is_written_is_read(table: Table) -> None:
    text = encode(table)
    assert decode(text) == Reading(table)
    assert "{{" not in text
    assert text.split("\n", 1)[0].startswith(MARK)


@settings(max_examples=300)
@given(tables, st.data())
def test_nothing_that_was_changed_passes_for_good(table: Table, data: st.DataObject) -> None:
    text = encode(table)
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.sampled_from(["", "0", "9", "}", "{", "\n", "x"])) + text[at + 1 :]
    if changed == text:
        return
    try:
        found = decode(changed)
    except PhoenixError:
        return
    assert encode(merged(found, Reading(table))) == text, "the copy puts it right"
    assert encode(merged(found, Reading())) != changed


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, MARK + text, f"{MARK}0 {text}"):
        with contextlib.suppress(PhoenixError):
            decode(candidate)
