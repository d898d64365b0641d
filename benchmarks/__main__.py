"""Every benchmark, one after another: `python -m benchmarks`. About four hours.

Each is a program of its own and writes its result as JSON; the exit status is 1 when a bar was missed.
"""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = (
    ("-m", "benchmarks.zero_loss"),
    ("-m", "benchmarks.footprint"),
    ("-m", "benchmarks.audit"),
    ("-m", "benchmarks.api_load"),
    ("-m", "benchmarks.backup_pipeline", "--json", "benchmarks/results/backup_pipeline.json"),
    ("-m", "benchmarks.tasks"),
    ("-m", "benchmarks.many_services"),
    ("-m", "benchmarks.scale_kubernetes"),
    ("-m", "benchmarks.kube_cache", "--json", "benchmarks/results/kube_cache.json"),
    ("benchmarks/demo_outcomes.py",),
    ("-m", "benchmarks.judge"),
    ("-m", "benchmarks.router", "--json", "benchmarks/router/results.json"),
)


def main() -> int:
    missed = []
    for words in BENCHMARKS:
        print("==", *words, flush=True)
        if subprocess.run([sys.executable, *words], check=False).returncode != 0:
            missed.append(words[-1] if len(words) < 3 else words[1])
    print("all bars held" if not missed else f"missed: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
