"""Real pages of Traefik 3.7.15 and of prometheus_client, read as series."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from phoenix_orch.health_validator.sources.exposition import (
    Key,
    Page,
    plain_values,
    process_page,
    router_page,
    split,
)
from phoenix_orch.rollout.spec import BusinessMetric, PlainValue

DATA = Path(__file__).parent / "data"
TRAEFIK = (DATA / "traefik_3_7_15.prom").read_text()
PYTHON = (DATA / "prometheus_client.prom").read_text()


def sums(page: Page) -> dict[tuple[str, str, str], float]:
    total: Counter[tuple[str, str, str]] = Counter()
    for text, value in page.series:
        key = split(text)
        total[key.revision, key.kind, key.name] += value
    return dict(total)


def test_both_variants_of_a_route_on_the_router_page() -> None:
    page = router_page(TRAEFIK, "web")
    found = sums(page)
    assert page.started == 1.79553311373e9
    assert found["aaaa", "ok", ""] == 48
    assert found["bbbb", "error", ""] == 12
    assert ("bbbb", "ok", "") not in found
    assert found["aaaa", "le", "inf"] == 48
    assert found["aaaa", "le", "10.0"] == 48
    assert len({key for key, _ in page.series}) == len(page.series)


def test_another_route_sees_nothing_of_it() -> None:
    assert router_page(TRAEFIK, "we").series == ()
    assert router_page(TRAEFIK, "shop").started == 1.79553311373e9


def test_streams_count_as_requests_and_not_as_latency() -> None:
    text = TRAEFIK.replace('protocol="http"', 'protocol="websocket"')
    kinds = {split(key).kind for key, _ in router_page(text, "web").series}
    assert kinds == {"ok", "error"}


@pytest.mark.parametrize("code", ["499", "0"])
def test_a_client_that_gave_up_was_neither_answered_nor_failed(code: str) -> None:
    found = sums(router_page(TRAEFIK.replace('code="503"', f'code="{code}"'), "web"))
    assert found["bbbb", "abandoned", ""] == 12
    assert found["bbbb", "waited", "inf"] == 12
    assert {kind for revision, kind, _ in found if revision == "bbbb"} == {"abandoned", "waited"}
    assert found["aaaa", "ok", ""] == 48


def test_a_process_may_tell_of_clients_that_gave_up() -> None:
    text = (
        'requests_total{status="200"} 7\nrequests_total{status="499"} 2\nrequests_total 1\n'
        'request_duration_seconds_bucket{status="499",le="+Inf"} 2\n'
        'request_duration_seconds_bucket{le="+Inf"} 7\n'
    )
    assert sums(process_page(text, "r1", ())) == {
        ("r1", "ok", ""): 8,
        ("r1", "abandoned", ""): 2,
        ("r1", "waited", "inf"): 2,
        ("r1", "le", "inf"): 7,
    }


def test_a_process_page() -> None:
    orders = BusinessMetric(name="orders", counter="orders_total", min_per_request=0)
    bare = BusinessMetric(name="bare", counter="orders", min_per_request=0)
    checkout = BusinessMetric(
        name="checkouts", counter="requests_total", labels={"path": "/checkout"}, min_per_request=0
    )
    page = process_page(PYTHON, "r1", (orders, bare, checkout))
    found = sums(page)
    assert page.started == 1.79553351571e9
    assert (found["r1", "ok", ""], found["r1", "error", ""]) == (36, 4)
    assert (found["r1", "le", "0.1"], found["r1", "le", "inf"]) == (10, 40)
    assert found["r1", "business", "orders"] == found["r1", "business", "bare"] == 10
    assert found["r1", "business", "checkouts"] == 10


@pytest.mark.parametrize("status", ["status", "status_code", "code"])
def test_other_usual_names(status: str) -> None:
    text = (
        "# TYPE http_requests_total counter\n"
        f'http_requests_total{{{status}="2xx",handler="/"}} 7\n'
        f'http_requests_total{{{status}="5xx",handler="/"}} 2\n'
        f'http_requests_total{{{status}="2xx",handler="/metrics"}} 90\n'
        f'http_requests_total{{{status}="2xx",handler="/healthz"}} 800\n'
        'http_request_duration_seconds_bucket{le="0.1",handler="/"} 5\n'
        'http_request_duration_seconds_bucket{le="0.1",handler="/healthz"} 800\n'
        'http_request_duration_seconds_bucket{le="+Inf",handler="/"} 9\n'
    )
    assert sums(process_page(text, "r1", ())) == {
        ("r1", "ok", ""): 7,
        ("r1", "error", ""): 2,
        ("r1", "le", "0.1"): 5,
        ("r1", "le", "inf"): 9,
    }


def test_of_two_names_for_the_same_thing_one_is_taken() -> None:
    text = 'requests_total{code="200"} 5\nhttp_requests_total{code="200"} 5\n'
    assert sums(process_page(text, "r1", ())) == {("r1", "ok", ""): 5}


@pytest.mark.parametrize(
    "text",
    ["<html><body>login</body></html>", '{"status": "ok"}', "ok", "", 'requests_total{code="200" 5\n'],
)
def test_what_is_not_a_page_of_metrics_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's words vary
        process_page(text, "r1", ())


def test_keys_can_be_taken_apart_again() -> None:
    key = Key("r1", "le", "0.1", "GET,a|b,200")
    assert split(str(key)) == key


def test_plain_values_are_the_worst_of_their_series() -> None:
    page = """# TYPE queue_length gauge
queue_length{queue="mail"} 12
queue_length{queue="orders"} 40
queue_length_max 900
# TYPE success_ratio gauge
success_ratio{shard="1"} 0.99
success_ratio{shard="2"} 0.42
success_ratio{shard="3"} NaN
"""
    values = (
        PlainValue(name="queue", gauge="queue_length", maximum=50),
        PlainValue(name="mail", gauge="queue_length", labels={"queue": "mail"}, maximum=50),
        PlainValue(name="success", gauge="success_ratio", minimum=0.9),
        PlainValue(name="other", gauge="other", maximum=1),
    )
    assert plain_values(page, values) == {"queue": 40, "mail": 12, "success": 0.42}
