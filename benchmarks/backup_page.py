"""The page docs/reference/backup-benchmark.md from the JSON of `backup_pipeline`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
RESULT = _ROOT / "benchmarks" / "results" / "backup_pipeline.json"
PAGE = _ROOT / "docs" / "reference" / "backup-benchmark.md"
_NAMES = {
    "backup": "backup by Phoenix",
    "backupByShell": "`redis-cli`, `zstd`, `age`, `rclone`",
    "backupByRestic": "`redis-cli`, `restic`",
    "restore": "restore by Phoenix",
    "restoreByShell": "`rclone`, `age`, `zstd`, `openssl dgst`",
    "restoreByShellUnproven": "the same, without a digest",
    "restoreByRestic": "`restic dump`",
}


def page(found: dict[str, Any]) -> str:
    about = found["conditions"]
    text = f"""\
# The benchmark of backups

<!-- By `python -m benchmarks.backup_pipeline --page` from benchmarks/results/backup_pipeline.json. -->

What a backup of Redis data costs, and what those who use the server notice. A Valkey with random values,
half of which can be compressed, goes to a real S3 server with TLS on the same machine, and comes back into
nothing, decrypted and proven. Measured on {about["date"]}, {about["machine"]}, Python {about["python"]}, load
average {about["loadAverageBefore"]} at the start. `python -m benchmarks.backup_pipeline` measures it anew.

The *bound by processor* is the time that all that took part would have needed if no processor had ever
waited: no arrangement of the same work is quicker. Of the rounds, in turns, that of the median time counts.
"""
    for size, one in found["sizes"].items():
        text += f"\n## {size.replace('GB', ' GB')}\n\n" + _speeds(one) + "\n" + _noticed(one)
    missed = found["missed"] or ["none: every bar is kept"]
    bars = found["bars"]
    return f"""{text}
## Bars

At least {bars["ofCpuBound"]} of the bound by processor; not slower than what others do in its place;
at most {bars["residentMiB"]:g} MiB of memory; a SET at the 99th percentile at most {bars["p99Times"]}
times as long as without a backup. Missed:

{"".join(f"- {one}{chr(10)}" for one in missed)}"""


def _speeds(one: dict[str, Any]) -> str:
    text = "| what | seconds | MB/s | of the bound by processor | memory, MiB |\n|---|---|---|---|---|\n"
    for key, name in _NAMES.items():
        told = one[key]
        text += (
            f"| {name} | {told['seconds']:g} | {told['rawMBs']:.0f} | {told['ofCpuBound']:.2f} "
            f"| {told.get('residentMiB', '')} |\n"
        )
    return text


def _noticed(one: dict[str, Any]) -> str:
    alone, replica = one["noticed"], one["noticedFromReplica"]
    rows = (
        ("no backup", alone["p99WithoutMs"]),
        ("a backup by Phoenix", alone["p99DuringMs"]),
        ("a backup by the shell", alone["p99ByShellMs"]),
        ("the data is read and dropped", alone["p99ReadAndDroppedMs"]),
        ("with a replica, no backup", replica["p99WithoutMs"]),
        ("with a replica, a backup from it", replica["p99DuringMs"]),
    )
    text = "| meanwhile | a SET at the 99th percentile |\n|---|---|\n"
    text += "".join(f"| {name} | {value:.2f} ms |\n" for name, value in rows)
    return f"""{text}
The server held {alone["extraMemoryMiB"]} MiB more meanwhile. Storage and replica stay off half of the
processors in this part, since they stand elsewhere as a rule.
"""
