"""A process that restores a dump into a server and stops in the middle, to be killed there.

    python -m tests.faults.redis_restorer PORT FILE BYTES

It says `stopped` when it has sent so many bytes of the file (and the end mark, where it is more than all).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.restore.redis_target import feeding


def main() -> None:
    port, file, count = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    data = file.read_bytes()

    with feeding(RedisAddress(port=port)) as session:
        session.write(data[:count])
        if count > len(data):
            session._feed.commit()
        print("stopped", flush=True)  # noqa: T201
        time.sleep(600)


if __name__ == "__main__":
    main()
