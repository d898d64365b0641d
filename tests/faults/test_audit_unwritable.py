"""R2 with an audit log that cannot be written: an abort goes through, what can wait is refused, and what was
done is in the log once it can be written again."""

from __future__ import annotations

import pytest
from tests.faults.story import story, until

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.rollout.status import CommandKind
from phoenix_orch.security.audit_log import AuditLog


@pytest.mark.timeout(120)
def test_r2_an_abort_needs_no_audit_log() -> None:
    with story() as made:
        made.begin()
        made.until_view("some weight", lambda view: view.rollout.status.weight > 0)
        audit, away = made.data / "audit", made.data / "audit-away"
        audit.rename(away)
        audit.write_text("no directory")
        view = made.view()
        assert view is not None
        with pytest.raises(Retryable, match="audit log"):
            made.client.command(view.rollout.name, CommandKind.PROMOTE_FULL)
        made.client.command(view.rollout.name, CommandKind.ABORT, reason="no log")
        until("weight 0 on the data plane", lambda: made.seen().weight == 0, 10.0)
        audit.unlink()
        away.rename(audit)
        log = AuditLog(audit)
        wanted = {"rollout.abort", "rollout.take-back"}
        until("recorded", lambda: wanted <= {one.action for one in log.newest(50)}, 20.0)
        assert log.verify().faults == ()
        assert not log.newest(1, lambda one: one.action == "rollout.promote-full")
