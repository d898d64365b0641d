"""The result as a table for people."""

from typing import Any


def _percent(result: dict[str, Any]) -> str:
    split = result["split"]
    return f"{split['mean_percent']:.2f} % (max off {split['max_deviation_points']:.2f})"


def _milliseconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds * 1000:.2f} ms"


def _changes(figures: dict[str, Any]) -> str:
    return f"{figures['failed']} of {figures['requests']} (resent {figures['resent_after_stale_connection']})"


def _effect(figures: dict[str, Any]) -> str:
    median, most = figures["effect_median_seconds"], figures["effect_max_seconds"]
    return f"{median * 1000:.0f} / {most * 1000:.0f} ms"


def _death(result: dict[str, Any]) -> str:
    death = result["backend_death"]
    return f"{death['failed_after_kill']} of {death['requests_after_kill']}"


def _counted(result: dict[str, Any]) -> str:
    return str(result["backend_death"]["counted_as_canary_errors"])


def _back(result: dict[str, Any]) -> str:
    return _milliseconds(result["backend_death"]["back_in_rotation_seconds"])


def _size(result: dict[str, Any]) -> str:
    return f"{result['facts']['wheel_megabytes']} / {result['program_megabytes']:.0f} MB"


ROWS = (
    ("start to first routed answer", lambda r: _milliseconds(r["start_seconds"])),
    ("canary share at 5 %, 2,000 requests", _percent),
    ("failed over 50 changes, keep-alive", lambda r: _changes(r["changes_keep_alive"])),
    ("failed over 50 changes, new connections", lambda r: _changes(r["changes_new_connections"])),
    ("change to last old answer, median / max", lambda r: _effect(r["changes_keep_alive"])),
    ("added latency p50", lambda r: _milliseconds(r["latency"]["added_p50_seconds"])),
    ("added latency p99", lambda r: _milliseconds(r["latency"]["added_p99_seconds"])),
    ("requests per second", lambda r: f"{r['throughput']['requests_per_second']:,.0f}"),
    ("share of direct throughput", lambda r: f"{100 * r['throughput']['of_direct']:.0f} %"),
    ("counters exact after", lambda r: _milliseconds(r["split"]["counters_agree_after_seconds"])),
    ("latency buckets exact after", lambda r: _milliseconds(r["split"]["buckets_agree_after_seconds"])),
    ("RSS after start", lambda r: f"{r['memory']['after_start_megabytes']:.0f} MB"),
    ("RSS after all load", lambda r: f"{r['memory']['after_load_megabytes']:.0f} MB"),
    ("weight file alone is enough", lambda r: "yes" if r["unattended"]["works"] else "no"),
    ("failed after kill -9 of the canary", _death),
    ("attempts counted as canary errors in that time", _counted),
    ("back in rotation after its return", _back),
    ("failed of 40 in flight at kill -9", lambda r: str(r["backend_death"]["in_flight_failed"])),
    ("wheel / program on disk", _size),
    ("licence", lambda r: r["facts"]["licence"]),
)


def table(result: dict[str, Any]) -> str:
    """A Markdown table, one column per candidate."""
    names = list(result["candidates"])
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for title, cell in ROWS:
        cells = [cell(result["candidates"][name]) for name in names]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
