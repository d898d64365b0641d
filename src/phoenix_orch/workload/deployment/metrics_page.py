"""Where a pod shows its metrics, by the annotations that Prometheus setups have made usual. Pure.

    prometheus.io/scheme  http (left out) or https
    prometheus.io/port    left out: the container port `metrics`, else the first one
    prometheus.io/path    left out: /metrics
    prometheus.io/scrape  "false": it has none

The host is always the pod's own address: an annotation sends nobody elsewhere.
"""

from __future__ import annotations

from typing import NamedTuple

from phoenix_orch.workload.deployment.manifest import Manifest, annotation, at, items, name_of

_OURS = "prometheus.io/"
_NAMED = "metrics"
MOST_PORT = 65535


class Page(NamedTuple):
    """`url` is empty where there is none; `fault` says why."""

    url: str
    fault: str = ""


def metrics_page(pod: Manifest) -> Page:
    """The page of one pod."""
    name = name_of(pod)
    if annotation(pod, f"{_OURS}scrape") == "false":
        return Page("", f"pod {name} says {_OURS}scrape: false")
    host = str(at(pod, "status", "podIP") or "")
    if not host:
        return Page("", f"pod {name} has no address")
    scheme = annotation(pod, f"{_OURS}scheme") or "http"
    if scheme not in ("http", "https"):
        return Page("", f"pod {name}: {_OURS}scheme is neither http nor https")
    port = metrics_port(pod)
    if not port:
        return Page("", f"pod {name} names no port of its metrics; annotate it with {_OURS}port")
    path = annotation(pod, f"{_OURS}path") or "/metrics"
    if not path.startswith("/"):
        return Page("", f"pod {name}: {_OURS}path does not begin with /")
    return Page(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{path}")


def metrics_port(pod: Manifest) -> int:
    """That of the annotation, else of its containers the one called `metrics`, else the first; 0: none that
    can be one."""
    ports = [port for one in items(pod, "spec", "containers") for port in items(one, "ports")]
    named = [port for port in ports if port.get("name") == _NAMED]
    found = annotation(pod, f"{_OURS}port") or str((named or ports or [{}])[0].get("containerPort", ""))
    return int(found) if found.isascii() and found.isdecimal() and 0 < int(found) <= MOST_PORT else 0
