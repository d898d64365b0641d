"""One candidate in a process of its own: `python -m tests.faults.kube_leader KUBECONFIG NAMESPACE`.

While it leads it appends a line to the ConfigMap `ledger`, again and again: its term and its process. Prints
`leads TERM` and `lost`. It writes as controllers do: read, decide, write on the version read, fenced.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.kube.client import KubeClient
from phoenix_orch.kube.config import load
from phoenix_orch.kube.errors import Changed
from phoenix_orch.kube.leader import LeaderElector, Leadership
from phoenix_orch.kube.lease import LeaseTiming
from phoenix_orch.kube.patches import merge_patch_of
from phoenix_orch.kube.resources import CONFIG_MAPS, Object

TIMING = LeaseTiming(duration=3, renew_deadline=1.8, retry=0.3)
LEASE = "leader-test"
LEDGER = "ledger"


def entry(ledger: Object, leadership: Leadership, who: str) -> Object:
    """One more line: the term of the leader who writes it, and its name."""
    lines = ledger.get("data", {}).get("lines", "")
    return {"data": {"lines": f"{lines}{leadership.term} {who}\n"}}


async def write(client: KubeClient, leadership: Leadership, who: str) -> None:
    """Until cancelled or out of office. Raises NotLeading."""
    fenced = client.fenced(leadership.remaining)
    while True:
        try:
            ledger = await fenced.get(CONFIG_MAPS, LEDGER)
            await fenced.patch(CONFIG_MAPS, LEDGER, merge_patch_of(ledger, entry(ledger, leadership, who)))
        except (Changed, Retryable):
            continue
        await asyncio.sleep(0.05)


async def main(kubeconfig: str, namespace: str) -> None:
    who = str(os.getpid())

    async def work(leadership: Leadership) -> None:
        sys.stdout.write(f"leads {leadership.term}\n")
        sys.stdout.flush()
        try:
            await write(client, leadership, who)
        finally:
            sys.stdout.write("lost\n")
            sys.stdout.flush()

    async with KubeClient(load(Path(kubeconfig), namespace=namespace)) as client:
        running = asyncio.ensure_future(LeaderElector(client, LEASE, timing=TIMING).run(work))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        await asyncio.wait([running])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
