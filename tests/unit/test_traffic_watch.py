"""When the router is left alone, told, restored or replaced."""

import pytest

from phoenix_orch.traffic.traefik_watch import Finding, Look, Patience, Remedy


def remedies(*found: Finding) -> list[Remedy]:
    patience = Patience()
    return [patience.remedy(Look(finding)) for finding in found]


def test_one_that_obeys_is_left_alone() -> None:
    assert set(remedies(*[Finding.OBEYS] * 20)) == {Remedy.NONE}


@pytest.mark.parametrize("bad", [Finding.DEAF, Finding.SILENT, Finding.TABLE_CHANGED])
def test_one_bad_look_is_nothing(bad: Finding) -> None:
    assert set(remedies(*[bad, Finding.OBEYS] * 10)) == {Remedy.NONE}


def test_silence_is_borne_for_five_looks() -> None:
    assert remedies(*[Finding.SILENT] * 5) == [*[Remedy.NONE] * 4, Remedy.REPLACE]


def test_one_that_does_not_obey_is_told_once_and_then_replaced() -> None:
    none = Remedy.NONE
    assert remedies(*[Finding.DEAF] * 5) == [none, Remedy.NUDGE, none, none, Remedy.REPLACE]


def test_one_that_takes_table_after_table_is_only_behind() -> None:
    patience = Patience()
    behind = [patience.remedy(Look(Finding.DEAF, f"table {number}")) for number in range(20)]
    assert set(behind) == {Remedy.NONE}
    stuck = [patience.remedy(Look(Finding.DEAF, "table 19")) for _ in range(4)]
    assert stuck == [Remedy.NUDGE, Remedy.NONE, Remedy.NONE, Remedy.REPLACE]


def test_a_changed_table_is_restored_until_it_stays() -> None:
    assert remedies(*[Finding.TABLE_CHANGED] * 3) == [Remedy.NONE, Remedy.RESTORE, Remedy.RESTORE]
