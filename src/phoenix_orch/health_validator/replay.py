"""Recorded observations judged again: the same verdicts, or those of another configuration. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from phoenix_orch.health_validator.history import History
from phoenix_orch.health_validator.judge import JudgeConfig, init, step
from phoenix_orch.health_validator.observation import Observation, Verdict


def replay(
    config: JudgeConfig, observations: Iterable[Observation], *, history: History | None = None
) -> Iterator[Verdict]:
    """The verdict after each observation of one release, in the order in which they were logged.

    `history`: what was known of stable before the release, see `history.learn`.
    """
    judged = effective(tuple(observations))
    if not judged:
        return
    state = init(config, judged[0].revision, history=history)
    for observation in judged:
        state, verdict = step(config, state, observation)
        yield verdict


def effective(observations: Sequence[Observation]) -> tuple[Observation, ...]:
    """Those that a verdict was published for, each once.

    An observation is logged before its verdict is published. After a crash in between, the next one
    begins where the last published one ended and carries everything: it takes the place of the first.
    """
    kept: list[Observation] = []
    for observation in observations:
        if kept and observation.t1 <= kept[-1].t1:
            continue  # logged twice
        while kept and observation.t0 < kept[-1].t1:
            kept.pop()
        kept.append(observation)
    return tuple(kept)
