"""One restore at a time into a server, whatever machine it is typed on: a lease in the storage.

Beside it each data directory has a lock of its own, by which a restore that died is known to be dead: typed
again there, it goes on at once. Another machine waits until the lease has run out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from phoenix_orch.kernel.errors import BadState, Conflict, Terminal
from phoenix_orch.recovery.lease import HeldLease, leases
from phoenix_orch.recovery.objects import ObjectStore

Check = Callable[[], None]
"""Before what another restore must not do at the same time. Raises Conflict when the claim was lost."""


@contextlib.contextmanager
def claimed(
    store: ObjectStore, run_ids: Sequence[str], holder: str, tell: Callable[[str], None]
) -> Iterator[Check]:
    """Claim servers by their run ids. `holder`: named to others; nobody else of that name may live.

    Raises BadState where another one restores into one of them. A storage that cannot be written keeps
    nobody from a restore: that is told.
    """
    with contextlib.ExitStack() as stack:
        held: list[HeldLease] = []
        take = leases(store, holder, heir=True)
        try:
            held.extend(
                stack.enter_context(take(f"locks/restores/{name}.json")) for name in sorted(set(run_ids))
            )
        except Conflict as error:
            raise BadState(
                f"another restore into this server is on its way: {error.message}",
                remedy="wait for it, or end it where it was begun: phoenix restore abort",
            ) from None
        except Terminal as error:
            tell(f"restores on other machines are not kept away: {error.message}")

        def check() -> None:
            for one in held:
                one.check()

        yield check
