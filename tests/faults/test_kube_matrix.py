"""Every call of a release, and every fault at it: each case is one release on a real API server.

A few of them are played by default; the others are slow. The page says what came of all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.kubectl import Cluster
from tests.faults import kube_matrix
from tests.faults.kube_calls import AGAIN
from tests.faults.kube_case import Story, play
from tests.faults.kube_matrix import CHOSEN, Case, allowed, cases, outcomes, play_case, said
from tests.faults.kube_page import NOT_MADE, PAGE, render
from tests.faults.kube_stage import INGRESS

from phoenix_orch.runtime.valkey_server import ValkeyServer


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    keeper = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    yield asyncio.run(keeper.ensure()).url
    asyncio.run(keeper.stop())


@pytest.mark.cluster
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "case",
    [pytest.param(one, id=str(one), marks=() if one in CHOSEN else pytest.mark.slow) for one in cases()],
)
async def test_one_fault_at_one_call(case: Case, cluster: Cluster, store: str, tmp_path: Path) -> None:
    outcome = await play_case(cluster, store, tmp_path, case)
    if not outcome.struck:
        pytest.skip("the releases did not make the call, which timing may do")
    assert said(outcome) in allowed(case), f"{said(outcome)}\n{outcome.told}"


@pytest.mark.cluster
@pytest.mark.timeout(400)
@pytest.mark.parametrize("story", Story)
async def test_a_release_makes_no_call_that_the_matrix_leaves_out(
    story: Story, cluster: Cluster, store: str, tmp_path: Path
) -> None:
    outcome = await play(cluster, store, tmp_path, story=story, router=INGRESS)
    known = {call for calls in kube_matrix.calls().values() for call in calls}
    new = {call for call in outcome.calls if call.removesuffix(AGAIN) not in known}  # timing repeats any
    assert new - known == set()
    assert outcome.broken == []
    assert len(outcome.calls) > len(known) / 4


def test_the_chosen_cases_are_cases() -> None:
    assert set(cases()) >= CHOSEN


def test_every_outcome_is_one_that_is_allowed() -> None:
    found = {case: end for case, end in outcomes().items() if end != NOT_MADE}
    assert {case: end for case, end in found.items() if end not in allowed(case)} == {}


def test_the_page_is_what_the_outcomes_say() -> None:
    rendered = render(kube_matrix.by_cell(), kube_matrix.calls(), of=len(list(cases())))
    assert PAGE.read_text("utf-8") == rendered, "run: python -m tests.faults.kube_matrix page"
