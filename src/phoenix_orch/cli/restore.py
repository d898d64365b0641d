"""`phoenix restore`."""

from __future__ import annotations

import typer

from phoenix_orch.cli import (
    restore_abort,
    restore_config,
    restore_kept,
    restore_keys,
    restore_redis,
    restore_volume,
)

app = typer.Typer(
    name="restore",
    help="Put back what was backed up: plan first, then run.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
plans = typer.Typer(
    name="plan",
    help="Tell what a restore would do; change nothing.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
runs = typer.Typer(
    name="run",
    help="Carry out what was planned.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
app.add_typer(plans)
app.add_typer(runs)
plans.command("config")(restore_config.plan)
runs.command("config")(restore_config.run)
plans.command("redis")(restore_redis.plan)
runs.command("redis")(restore_redis.run)
app.command("kept")(restore_kept.kept)
app.command("keys")(restore_keys.keys)
app.command("status")(restore_redis.status)
app.command("abort")(restore_abort.abort)
plans.command("volume")(restore_volume.plan)
runs.command("volume")(restore_volume.run)
runs.command("claim")(restore_volume.swap)
