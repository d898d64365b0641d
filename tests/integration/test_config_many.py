"""10,000 ConfigMaps and 1,000 Secrets: backed up three times over in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MOST_MEMORY = 150
"""MiB resident, all of Python in it."""
PROGRAM = """
import base64, contextlib, json, resource, sys
from pathlib import Path
import pyrage
from phoenix_orch.recovery.sources.config import ConfigSource
from phoenix_orch.recovery.sources.config_items import Document

class Many:
    source = {}
    turn = 0

    @contextlib.contextmanager
    def read(self, tally):
        yield self.items(tally)

    def items(self, tally):
        for number in range(11_000):
            kind = "Secret" if number < 1_000 else "ConfigMap"
            tally.kinds[kind] += 1
            more = self.turn if number % 100 == 0 else 0
            text = "".join(f"key{line}={number * line + more}\\n" for line in range(100))
            value = base64.b64encode(text.encode()).decode() if kind == "Secret" else text
            name = f"c{number:05}"
            content = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "data": {"a": value}}
            yield Document(f"shop/{kind}/{name}.yaml", kind, content, sealed=kind == "Secret")

items, to = Many(), [str(pyrage.x25519.Identity.generate().to_public()) for _ in range(2)]
source, sizes = ConfigSource(Path(sys.argv[1]), items, to, last_bundle=lambda: None), []
for items.turn in range(3):
    with source.capture() as capture:
        size = 0
        while piece := capture.read(1 << 20):
            size += len(piece)
        objects = capture.facts().content["objects"]
    sizes.append(size)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
sys.stdout.write(json.dumps({"objects": objects, "sizes": sizes, "peak": peak}))
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_many_objects_take_bounded_memory_and_a_change_costs_what_changed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "state")],
        check=False,
        capture_output=True,
        text=True,
        timeout=380,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["objects"] == 11_000
    assert found["peak"] < MOST_MEMORY
    first, _, last = found["sizes"]
    assert last - first < first // 20, "two more versions, in each of which 110 of 11,000 changed"
