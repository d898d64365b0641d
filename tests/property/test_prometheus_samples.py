"""Counting by way of one of two Prometheus servers: never more than happened, nothing lost in the end."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.health_validator.counters import TrackerState, update
from phoenix_orch.health_validator.sources.prometheus_samples import Counted, scrapes

PACE, WINDOW = 15.0, 120.0


@dataclass
class Program:
    started: float = 1000.0
    count: int = 0


@dataclass
class Server:
    """Scrapes at its own moments, and keeps two minutes."""

    offset: float
    points: list[tuple[float, float]] = field(default_factory=list)

    def scrape(self, now: float, program: Program) -> None:
        if (now - self.offset) % PACE == 0:
            self.points.append((now, float(program.count)))

    def raw(self, now: float) -> tuple[tuple[float, float], ...]:
        return tuple(point for point in self.points if now - WINDOW < point[0] <= now)


looks = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1)), min_size=1, max_size=120)
"""For each second: requests, and which server is asked if it is time to look."""


@given(looks, st.integers(1, 20), st.booleans())
def test_two_servers_count_every_request_once(
    story: list[tuple[int, int]], every: int, tells_start: bool
) -> None:
    program, servers = Program(), (Server(0.0), Server(7.0))
    state, read, endpoint = TrackerState(), dict[str, float](), 0
    seen, baseline, now = 0, None, 1000.0
    for requests, server in [*story, *[(0, 0)] * 40]:
        now += 1.0
        program.count += requests
        for each in servers:
            each.scrape(now, program)
        if now % every:
            continue
        one = Counted("p", "r|ok||", program.started if tells_start else None, servers[server].raw(now))
        taken = scrapes([one], state, read, now=now, switched=server != endpoint)
        assert all(at <= now for at in taken.read.values())
        state, deltas = update(state, taken.samples, now)
        read, endpoint = taken.read, server
        if baseline is None and "p" in state.processes:
            counted = sum(deltas.increases["p"].values.values()) if "p" in deltas.increases else 0
            baseline = state.processes["p"].values["r|ok||"] - counted
        seen += sum(sum(increase.values.values()) for increase in deltas.increases.values())
        if baseline is not None:
            assert seen <= program.count - baseline
    assert baseline is not None
    assert seen == program.count - baseline
