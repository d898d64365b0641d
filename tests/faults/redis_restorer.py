"""A process that restores a dump into a server and stops in the middle, to be killed there.

    python -m tests.faults.redis_restorer PORT FILE BYTES

It says `stopped` when it has sent so many bytes of the file (and the end mark, where it is more than all).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.restore.feed import Feed
from phoenix_orch.recovery.restore.redis_target import load


def main() -> None:
    port, file, count = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    data = file.read_bytes()

    def pour(feed: Feed) -> None:
        feed.write(data[:count])
        if count > len(data):
            feed.commit()
        print("stopped", flush=True)  # noqa: T201
        time.sleep(600)

    load(RedisAddress(port=port), pour)


if __name__ == "__main__":
    main()
