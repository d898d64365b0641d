"""How busy this machine is, in words: a demo of time is another one where others take the processors."""

from __future__ import annotations

import os

from phoenix_orch.kernel.errors import Terminal


def load() -> str:
    """`the load average here is 12.3 on 2 processors`."""
    return f"the load average here is {os.getloadavg()[0]:.1f} on {os.cpu_count() or 1} processors"


def too_busy(what: str) -> Terminal:
    """The demo has waited for long enough. `what`: for which thing."""
    return Terminal(
        f"{what}; {load()}",
        remedy="end what else keeps this machine busy, and run it again; --keep keeps its logs",
    )


def busy() -> str:
    """What to say of a demo that did not end as it should; empty where the machine has room."""
    if os.getloadavg()[0] <= 2 * (os.cpu_count() or 1):
        return ""
    return (
        f"{load()}: requests and instances wait for processors, so that a good version looks slow, and a bad "
        "one is found for another reason or late; end what else runs, and try again"
    )
