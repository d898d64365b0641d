"""What users call in a cluster: `{route}` of checks and critical paths. Pure.

`traffic.url` where it is given. Otherwise an Ingress says it where it is plain: without TLS, and with an
address in its status, which is called with the host of its first rule for the Service that is released.
"""

from __future__ import annotations

import re

from phoenix_orch.kernel import placeholders
from phoenix_orch.kube.resources import Object
from phoenix_orch.orchestrator.cluster.declared import Declared
from phoenix_orch.rollback_controller.checks import Route
from phoenix_orch.rollout.kubernetes_spec import KubernetesRolloutSpec
from phoenix_orch.workload.deployment.refusal import Refusal

ROUTE = "route"
_PLAIN_PATH = re.compile(r"/[-A-Za-z0-9/._~]*")
_REGEX = "nginx.ingress.kubernetes.io/use-regex"
_REMEDY = "say in `traffic.url` what users call"


def call_of(one: Declared, main: Object | None) -> Route | Refusal:
    """How users' requests are made, or why that is not known. `main`: the first Ingress of the route."""
    traffic = one.spec.traffic
    if traffic.url is not None:
        return Route(traffic.url.rstrip("/"))
    if traffic.ingress is None:
        return _unknown(f"HTTPRoute {traffic.http_route}", "does not say where its Gateway is")
    what = f"Ingress {traffic.ingress}"
    if main is None:
        return _unknown(what, "does not exist")
    if main["spec"].get("tls"):
        return _unknown(what, "has TLS, and a certificate is good for a name alone")
    if (found := _first_rule(main, one.spec.service)) is None:
        return _unknown(what, "has no rule with a plain host and path for its Service")
    if (address := _address(main)) is None:
        return _unknown(what, "has no address in its status")
    host, path = found
    return Route(f"http://{address}{path}".rstrip("/"), host or None)


def asked(spec: KubernetesRolloutSpec) -> str | None:
    """The check that calls `{route}`; None: nobody does."""
    for check in spec.checks:
        if check.http is not None and ROUTE in placeholders.words(check.http.url):
            return check.name
    return None


def missing(one: Declared, main: Object | None) -> Refusal | None:
    """Why a check of the Rollout could not call what users call; None: it can, or none does."""
    if (check := asked(one.spec)) is None:
        return None
    found = call_of(one, main)
    if isinstance(found, Route):
        return None
    return Refusal(found.reason, f"check {check} calls {{{ROUTE}}}, and {found.message}", found.remedy)


def _first_rule(main: Object, service: str) -> tuple[str, str] | None:
    """Host and path; the host is empty where any does."""
    if (main["metadata"].get("annotations") or {}).get(_REGEX) == "true":
        return None
    for rule in main["spec"].get("rules") or []:
        host = rule.get("host", "")
        for path in (rule.get("http") or {}).get("paths") or []:
            leads = (path["backend"].get("service") or {}).get("name") == service
            where = path.get("path", "/")
            if leads and not host.startswith("*") and _PLAIN_PATH.fullmatch(where):
                return host, where
    return None


def _address(main: Object) -> str | None:
    for one in ((main.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []:
        address = one.get("hostname") or one.get("ip")
        if address:
            return f"[{address}]" if ":" in address else str(address)
    return None


def _unknown(what: str, why: str) -> Refusal:
    return Refusal("RouteUnknown", f"{what} {why}", _REMEDY)
