"""Large blocks go back to the system; what stays is not searched for cycles."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from phoenix_orch.runtime.memory import return_large_blocks
if sys.argv[1] == "returned":
    return_large_blocks()
del_me = bytearray(8 << 20)
del del_me  # glibc takes the like from its heap from now on
blocks, pins = [], []
for _ in range(20):
    blocks.append(bytearray(2 << 20))
    pins.append(bytearray(600))  # keeps the heap from shrinking below it
blocks.clear()
resident = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
print(int(resident.split()[1]) >> 10)
"""


def resident(how: str) -> int:
    """MiB that the program still has when all of its 40 MiB of large blocks are freed."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is asked for")
def test_large_blocks_leave_no_holes() -> None:
    assert resident("returned") <= resident("as it is")
    assert resident("returned") < 30


STAYING = """
import gc, weakref
from phoenix_orch.runtime.memory import set_aside_what_stays

class Thing: pass

def cycle():
    one = Thing()
    one.self = one
    return weakref.ref(one)

before = cycle()
stays = [{"n": [n]} for n in range(1000)]
set_aside_what_stays()
after, freed = cycle(), weakref.ref(Thing())
tracked = {id(one) for one in gc.get_objects()}
gc.collect()
print(before() is None, after() is None, freed() is None, any(id(one) in tracked for one in stays))
"""


def test_what_stays_is_not_searched_and_no_cycle_is_kept() -> None:
    done = subprocess.run([sys.executable, "-c", STAYING], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True", "False"]
