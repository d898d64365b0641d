"""What a revision gets of the requests, by what the data plane was seen to do."""

from __future__ import annotations

import pytest

from phoenix_orch.traffic.router import TrafficSeen


@pytest.mark.parametrize(
    ("seen", "share"),
    [
        (TrafficSeen(weight=20, canary_revision="it", stable_revision="old"), 20),
        (TrafficSeen(weight=0, canary_revision="it", stable_revision="old"), 0),
        (TrafficSeen(weight=0, stable_revision="it"), 100),
        (TrafficSeen(weight=20, canary_revision="new", stable_revision="it"), 80),
        (TrafficSeen(weight=0, stable_revision="old"), 0),
        (TrafficSeen(weight=None), None),
    ],
)
def test_a_share_is_that_as_canary_and_as_stable(seen: TrafficSeen, share: int | None) -> None:
    assert seen.share("it") == share
