"""`phoenix doctor`."""

from __future__ import annotations

from collections.abc import Sequence

from phoenix_orch.cli import reaching
from phoenix_orch.cli.checks import Finding, State, examine
from phoenix_orch.cli.options import UNSET, DataDir, Output, OutputOption
from phoenix_orch.cli.output import emit

_SIGNS = {State.OK: "ok", State.WARNING: "warning", State.FAULT: "FAULT"}


def doctor(output: OutputOption = Output.TABLE, data_dir: DataDir = UNSET) -> int:
    """Tell what is installed, what runs, and what to do about faults.

    Exit status 1 where there is a fault; warnings alone give 0.
    """
    reaching.here_only("programs, files and processes", "ask `phoenix get`")
    findings = examine(data_dir)
    emit(output, findings, _report(findings))
    return 1 if any(finding.state is State.FAULT for finding in findings) else 0


def _report(findings: Sequence[Finding]) -> str:
    size = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{_SIGNS[finding.state]:<7}  {finding.name:<{size}}  {finding.detail}")
        if finding.remedy:
            lines.append(f"{'':<7}  {'':<{size}}  what to do: {finding.remedy}")
    faults = sum(finding.state is State.FAULT for finding in findings)
    warnings = sum(finding.state is State.WARNING for finding in findings)
    lines += ["", f"{_count(faults, 'fault')}, {_count(warnings, 'warning')}"]
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
