"""Run the comparison: ``python -m benchmarks.router --json OUT``."""

import argparse
import asyncio
import json
import sys
from pathlib import Path

from benchmarks.router import environment

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "bench-router"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.router", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures to OUT")
    options = parser.parse_args(arguments)
    environment.enter(CACHE, arguments)

    # Only the pinned environment has what these import.
    from benchmarks.router import report, suite  # noqa: PLC0415

    result = asyncio.run(suite.run())
    print(report.table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
