"""The client's calls about who gets in, and about second persons."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from phoenix_orch.client.calling import Calling
from phoenix_orch.kernel.units import format_duration
from phoenix_orch.orchestrator.identity_views import LoginCode, NewToken, SecondPerson, TokenView
from phoenix_orch.security.rights import EVERYWHERE, Role
from phoenix_orch.security.two_persons import Approval


class IdentityCalls(Calling):
    """Calls about tokens and approvals."""

    def create_login_code(self) -> LoginCode:
        """Lets one browser in as whoever asks, once and within a minute."""
        return self._post(LoginCode, {}, "login-codes")

    def tokens(self) -> list[TokenView]:
        return self._get(list[TokenView], "tokens")

    def create_token(
        self,
        name: str,
        role: Role,
        *,
        namespaces: Sequence[str] = (EVERYWHERE,),
        lasting: timedelta | None = timedelta(days=90),
        dry_run: bool = False,
    ) -> NewToken:
        """`lasting`: at most 366 days; None: until it is revoked."""
        body = {
            "name": name,
            "role": role.value,
            "namespaces": list(namespaces),
            "lasting": None if lasting is None else format_duration(lasting),
            "dryRun": dry_run,
        }
        return self._post(NewToken, body, "tokens")

    def revoke_token(self, id: str, *, reason: str = "", dry_run: bool = False) -> TokenView:  # noqa: A002
        return self._post(TokenView, {"reason": reason, "dryRun": dry_run}, "tokens", id, "revoke")

    def second_person(
        self, action: str, target: str, *, reason: str = "", dry_run: bool = False
    ) -> SecondPerson:
        """Raises BadState until a second person has agreed to exactly this, where somebody else may."""
        body = {"action": action, "target": target, "reason": reason, "dryRun": dry_run}
        return self._post(SecondPerson, body, "approvals")

    def approvals(self) -> list[Approval]:
        return self._get(list[Approval], "approvals")

    def approval(self, id: str) -> Approval:  # noqa: A002
        return self._get(Approval, "approvals", id)

    def approve(self, id: str, *, reason: str = "", dry_run: bool = False) -> Approval:  # noqa: A002
        return self._post(Approval, {"reason": reason, "dryRun": dry_run}, "approvals", id, "approve")

    def refuse(self, id: str, *, reason: str = "", dry_run: bool = False) -> Approval:  # noqa: A002
        return self._post(Approval, {"reason": reason, "dryRun": dry_run}, "approvals", id, "refuse")
