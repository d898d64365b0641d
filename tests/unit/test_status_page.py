"""The status page: its memory, what it says, what it must not say, and that it is written whole."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.integration.fake_phoenix import FakeOperations, cause

from phoenix_orch.console.status_page import Facts, Incident, pages, write
from phoenix_orch.console.status_writer import look, read_days
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.layout import Layout
from phoenix_orch.orchestrator.status_days import DAYS, StatusDays, grade, looked, row, uptime
from phoenix_orch.rollout.status import Outcome, Release

TODAY = date(2026, 3, 1)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@given(st.lists(st.tuples(st.integers(0, 200), st.booleans()), max_size=60))
def test_every_look_of_the_last_days_counts_once(looks: list[tuple[int, bool]]) -> None:
    kept = StatusDays()
    begun = TODAY - timedelta(days=200)
    ordered = sorted(looks, key=lambda one: one[0])
    for after, well in ordered:
        kept = looked(kept, begun + timedelta(days=after), {"web": well})
    assert len(kept.days) <= DAYS
    if ordered:
        last = begun + timedelta(days=ordered[-1][0])
        first = last - timedelta(days=DAYS - 1)
        counted = [well for after, well in ordered if begun + timedelta(days=after) >= first]
        assert uptime(kept, "web") == sum(counted) / len(counted)
        shown = list(row(kept, "web", last))
        assert len(shown) == DAYS
        assert shown[-1][1] is not None
    assert StatusDays.model_validate_json(kept.model_dump_json(by_alias=True)) == kept


@pytest.mark.parametrize(
    ("share", "word"), [(None, "unknown"), (1.0, "well"), (0.99, "degraded"), (0.5, "down")]
)
def test_a_day_is_graded(share: float | None, word: str) -> None:
    assert grade(share) == word


def release(**fields: object) -> Release:
    return Release.model_validate(
        {
            "number": 2,
            "revision": "2222222222",
            "version": "1.5.0",
            "ended": NOW,
            "outcome": Outcome.ROLLED_BACK,
            "reason": "the password of db.internal:5432 was refused",
            "cause": cause(),
            **fields,
        }
    )


def test_it_says_what_works_and_nothing_internal() -> None:
    facts = Facts(NOW, {"web": True, "<b>shop</b>": False}, [("web", release())])
    text = pages(facts, looked(StatusDays(), TODAY, facts.parts), "Shop & co")["index.html"].decode()
    assert "Something does not work" in text
    assert "taken back" in text
    assert "Shop &amp; co" in text
    assert "<b>shop" not in text
    for inner in ("db.internal", "password", "errors 3.1%", "127.0.0.1", "<script", "style="):
        assert inner not in text
    calm = pages(Facts(NOW, {"web": True}, []), StatusDays())["index.html"].decode()
    assert "Everything works" in calm
    open_one = Facts(NOW, {"web": True}, [], [Incident("Payments are slow", NOW, "we look into it")])
    told = pages(open_one, StatusDays())["index.html"].decode()
    assert "Payments are slow" in told
    assert "Something does not work" in told


def test_it_is_written_whole_or_refused(tmp_path) -> None:
    place = tmp_path / "public"
    write(place, {"status.css": b"a", "index.html": b"one"})
    write(place, {"status.css": b"a", "index.html": b"two"})
    assert sorted(file.name for file in place.iterdir()) == ["index.html", "status.css"]
    assert (place / "index.html").read_bytes() == b"two"
    assert (place / "index.html").stat().st_mode & 0o777 == 0o644
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(Invalid, match="cannot be written"):
        write(tmp_path / "file", {"index.html": b""})


async def test_a_look_is_remembered_and_written_where_the_configuration_says(tmp_path) -> None:
    layout = Layout(tmp_path / "d")
    layout.make()
    kept = await look(FakeOperations(), layout, read_days(layout.status_days))
    assert uptime(kept, "web") == 1.0
    assert uptime(kept, "Phoenix router") == 0.0
    assert read_days(layout.status_days) == kept
    assert not (tmp_path / "public").exists()
    service = {"version": "1", "command": ["app", "{port}"]}
    file = PhoenixFile.model_validate(
        {
            "services": {"web": service},
            "routes": {"web": {"service": "web"}},
            "statusPage": {"directory": str(tmp_path / "public"), "title": "Ours"},
        }
    )
    layout.config.write_text(file.model_dump_json(by_alias=True), encoding="utf-8")
    await look(FakeOperations(), layout, kept)
    assert "<title>Ours</title>" in (tmp_path / "public" / "index.html").read_text(encoding="utf-8")
    layout.status_days.write_text("torn", encoding="utf-8")
    assert read_days(layout.status_days) == StatusDays()
