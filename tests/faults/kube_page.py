"""docs/reference/fault-matrix.md from the recorded outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tests.faults.kube_case import Fault, Story, faults_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "fault-matrix.md"
NOT_MADE = "not made"
"""The outcome of a case whose call none of its releases has made."""
_HEAD = """\
# Faults of a cluster and what comes of them

Generated from `tests/faults/kube_outcomes.json` by `python -m tests.faults.kube_matrix page`; do not edit.
The outcomes are recorded by `python -m tests.faults.kube_matrix run`.

Every line is a call that Phoenix makes of the API server during a release, named by who makes it, what it
asks for, and what the call is about; the state is the one that the Rollout was in. Every cell is a release
of its own on a real API server, with one fault at this call:

| fault | what happens |
|---|---|
| kill -9 before it | the process is killed when the call has left it; the API server never sees the call |
| kill -9 after it | the API server has done it; the process is killed before it hears so |
| conflict | the call is answered with 409, three times in a row |
| time-out | no answer comes; of a write, which was done |
| 500 | the call is answered with 500, three times in a row |
| deletion | the object of the call is deleted just before; what is not Phoenix's comes back after a second |

A cell says how the release ended. A *good* one has to be promoted, a *bad* one (every second answer is an
error) has to be rolled back and latched, as without the fault. A deleted Rollout gives all traffic back to
stable. A deleted canary, or a stable that was deleted and put back, may end the release with all traffic at
stable. The orchestrator, the health validator and the rollback controller share the process that is killed.

In all of them these rules held, over every version of the Rollout, of what carries the weight, and of the
two Deployments:

- R1: a bad version never got beyond its first step;
- R3: the weight never rose above that of the step that the Rollout was in, nor outside a release;
- R4: no latch was lost, and no latched revision had a weight again;
- R5: stable was never scaled and had all of its pods ready, unless somebody deleted it; the canary had pods
  whenever its weight rose, and never more than all requests need;
- R7: the end is the one without the fault.

{played} of {of} cases have an outcome: {ends}.
The cells of the others are empty. `-`: no such fault at this call.

*Not made*: some calls come from time to time only. A process reads at the API server only where its watch is
behind what it wrote itself, and who writes first decides in which state, and how often, the others write.
Three to six releases of the case were played, and none made the call.

R2 has tests of its own (`tests/faults/test_kube_abort.py`); R6 is about pure functions, and tested there.
"""


def render(
    outcomes: Mapping[tuple[str, Story, str, Fault], str],
    calls: Mapping[tuple[str, Story], tuple[str, ...]],
    *,
    of: int,
) -> str:
    """The page: a table for each router and story, a line for each call in its order. `of`: all cases."""
    ends = ", ".join(f"{number} {end}" for end, number in Counter(outcomes.values()).most_common())
    parts = [_HEAD.format(played=len(outcomes), of=of, ends=ends)]
    for (router, story), listed in calls.items():
        rows = "".join(_row(router, story, call, outcomes) for call in listed)
        if rows:
            columns = " | ".join(Fault)
            title = f"## A {story} release, {'an Ingress' if router == 'ingress' else 'an HTTPRoute'}"
            parts.append(f"{title}\n\n| call | {columns} |\n|---{'|---' * len(Fault)}|\n{rows}")
    return "\n".join(parts)


def _row(router: str, story: Story, call: str, outcomes: Mapping[tuple[str, Story, str, Fault], str]) -> str:
    found = {fault: outcomes.get((router, story, call, fault), "") for fault in Fault}
    cells = [found[fault] if fault in faults_of(call) else "-" for fault in Fault]
    return f"| {call} | {' | '.join(cells)} |\n" if any(found.values()) else ""
