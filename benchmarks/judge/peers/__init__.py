"""The published rules of other tools, each a pure function from a release to the tick of its rollback.

    decide(release) -> ticks of 10 s until the rollback, or None: promoted at the end of the walk

All of them follow the guide's walk as planned: where a rule would wait (a failed check of Flagger halts
the weight for one interval) it is not made to wait, which changes when it decides and not what.
Limits are the guide's own unless the docstring says otherwise, and the window of a query is one minute.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.judge.peers import argo, bayes, flagger, kayenta, lindon, msprt
from benchmarks.judge.walk import Release

Decide = Callable[[Release], int | None]

PEERS: dict[str, Decide] = {
    "flagger-default": flagger.defaults,
    "flagger-guide": flagger.guide,
    "argo-fl0": lambda release: argo.decide(release, failure_limit=0),
    "argo-fl3": lambda release: argo.decide(release, failure_limit=3),
    "kayenta": kayenta.decide,
    "netflix-seq": lindon.decide,
    "bayes-peek": bayes.decide,
    "msprt": msprt.decide,
}
