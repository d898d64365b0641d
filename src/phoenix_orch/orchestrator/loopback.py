"""Which addresses only this machine can reach."""

from __future__ import annotations

import ipaddress


def loopback(address: str) -> bool:
    """Whether `host:port/…` is this machine alone."""
    host = address.partition("/")[0]
    host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
