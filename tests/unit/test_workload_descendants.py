"""Who belongs to an instance, told from the table of processes alone; and orphans, told from own children."""

from __future__ import annotations

import subprocess
import sys

import pytest

from phoenix_orch.runtime.detached import Process
from phoenix_orch.runtime.process_table import Row, below
from phoenix_orch.workload.descendants import Family, grown

LEADER = Process(pid=10, started="boot/10")


def row(parent: int, group: int, session: int | None = None, *, pid: int = 0, over: bool = False) -> Row:
    return Row(parent, group, group if session is None else session, f"boot/{pid}", over)


def table(**rows: tuple[int, int, int]) -> dict[int, Row]:
    """pNN=(parent, group, session)."""
    found = {int(name[1:]): row(*at, pid=int(name[1:])) for name, at in rows.items()}
    return {1: row(0, 1, pid=1), **found}


def members(now: dict[int, Row], *known: int) -> list[int]:
    family = Family(
        instance="web-1",
        leader=LEADER,
        members=tuple(Process(pid=pid, started=f"boot/{pid}") for pid in known),
    )
    return [one.pid for one in grown(now, family).members]


def test_what_is_outside_the_group_and_descends_from_the_leader_is_a_member() -> None:
    now = table(p10=(5, 10, 10), p11=(10, 10, 10), p12=(11, 12, 12), p13=(12, 12, 12), p20=(1, 20, 20))
    assert members(now) == [12, 13]


def test_a_group_of_its_own_in_the_session_of_the_leader_is_one_too() -> None:
    now = table(p10=(5, 10, 10), p11=(1, 11, 10))
    assert members(now) == [11]


def test_a_member_stays_one_when_its_parents_have_ended_and_so_does_what_it_starts() -> None:
    now = table(p12=(1, 12, 12), p13=(12, 13, 13), p14=(1, 14, 14))
    assert members(now, 12) == [12, 13]


def test_another_process_with_the_pid_of_a_member_or_the_leader_is_none() -> None:
    now = table(p12=(1, 12, 12), p13=(12, 12, 12), p10=(1, 10, 10), p11=(10, 11, 11))
    later = {pid: Row(r.parent, r.group, r.session, "boot/later", r.over) for pid, r in now.items()}
    assert members(later, 12) == []


def test_one_that_has_ended_is_no_member_though_what_it_started_is_for_as_long_as_it_is_its_child() -> None:
    now = table(p10=(5, 10, 10), p13=(12, 13, 13))
    now[12] = row(10, 12, pid=12, over=True)
    assert members(now, 12) == [13]


def test_below_is_closed_and_ends_also_where_parents_go_in_a_circle() -> None:
    now = {2: row(3, 2), 3: row(2, 3), 4: row(3, 4), 5: row(1, 5)}
    assert below(now, [2]) == {2, 3, 4}
    assert below(now, []) == set()


ORPHANS = """
import os, subprocess, sys, time
from phoenix_orch.runtime import children
from phoenix_orch.runtime.process_table import table

orphans = children.Orphans()
before = subprocess.Popen(["sleep", "60"])
assert orphans.among(table()) == orphans.among(table()) == set(), "nobody asked for any"
adopting = children.adopting_orphans()
assert adopting.__enter__()
mine = subprocess.Popen(["sleep", "60"])
children.note(mine.pid)
children.note(before.pid)
pid = int(subprocess.check_output(["/bin/sh", "-c", "setsid sleep 60 >/dev/null 2>&1 & echo $!"]))
assert orphans.among(table()) == set(), "believed at the second look"
assert orphans.among(table()) == {pid}
os.kill(pid, 9)
os.kill(mine.pid, 9)
deadline = time.monotonic() + 20
while os.path.exists(f"/proc/{pid}"):
    assert time.monotonic() < deadline, "it is reaped"
    orphans.among(table())
    time.sleep(0.01)
assert mine.wait(20) == -9, "how its own child ended is told to this process"
assert orphans.among(table()) == set()
adopting.__exit__(None, None, None)
assert orphans.among(table()) == orphans.among(table()) == set(), "nobody asks any more"
before.kill()
before.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="orphans can be asked for on Linux")
def test_orphans_are_told_from_own_children_and_reaped() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORPHANS], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
