"""Requests that wait for a quorum (section 5): who asked what, and how it ended."""

import uuid
from enum import StrEnum
from typing import Any

from attrs import Factory, define

from dsm_emulator.clock import Clock, basic_iso
from dsm_emulator.errors import DsmError, bad_request
from dsm_emulator.http_message import Answer


class ApprovalStatus(StrEnum):
    """How far a request has come."""

    PENDING = "PENDING"
    APPROVED = "APPROVED"
    DENIED = "DENIED"
    FAILED = "FAILED"


@define
class ApprovalRequest:
    """An operation that somebody has to approve.

    Attributes:
        requester: The id of the app that asked.
        method: The HTTP method of the operation.
        operation: Its path.
        body: Its body.
        created_at: When, in seconds since the epoch.
        approvers: The ids of the apps that approved.
        denier: The id of the app that denied.
        result: What the operation answered, once it was carried out.
    """

    requester: str
    method: str
    operation: str
    body: Any
    created_at: float
    acct_id: str
    description: str | None = None
    request_id: str = Factory(lambda: str(uuid.uuid4()))
    status: ApprovalStatus = ApprovalStatus.PENDING
    approvers: list[str] = Factory(list)
    denier: str | None = None
    result: Answer | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the request as DSM shows it."""
        shown: dict[str, Any] = {
            "request_id": self.request_id,
            "requester": {"app": self.requester},
            "acct_id": self.acct_id,
            "method": self.method,
            "operation": self.operation,
            "body": self.body,
            "created_at": basic_iso(self.created_at),
            "approvers": [{"app": app_id} for app_id in self.approvers],
            "reviewers": [],
            "subjects": [],
            "status": self.status.value,
        }
        if self.description is not None:
            shown["description"] = self.description
        if self.denier is not None:
            shown["denier"] = {"app": self.denier}
        return shown


class Approvals:
    """All requests by id.

    Attributes:
        automatic: Whether each request is approved as soon as it is made.
    """

    def __init__(self, clock: Clock) -> None:
        self.automatic = False
        self._clock = clock
        self._by_id: dict[str, ApprovalRequest] = {}

    def ask(  # noqa: PLR0913 - a request has these fields
        self,
        requester: str,
        acct_id: str,
        *,
        method: str,
        operation: str,
        body: Any,
        description: str | None,
    ) -> ApprovalRequest:
        """Make a request."""
        asked = ApprovalRequest(
            requester=requester,
            method=method,
            operation=operation,
            body=body,
            created_at=self._clock.now(),
            acct_id=acct_id,
            description=description,
        )
        self._by_id[asked.request_id] = asked
        return asked

    def all(self) -> list[ApprovalRequest]:
        """Return all requests, oldest first."""
        return list(self._by_id.values())

    def one(self, request_id: str) -> ApprovalRequest:
        """Return the request of this id.

        Raises:
            DsmError: 404.
        """
        asked = self._by_id.get(request_id)
        if asked is None:
            raise DsmError(404, "approval request does not exist")
        return asked

    def approve(self, asked: ApprovalRequest, approver: str) -> None:
        """Approve a pending request.

        Raises:
            DsmError: 400, it isn't pending.
        """
        _expect(asked, ApprovalStatus.PENDING)
        asked.approvers.append(approver)
        asked.status = ApprovalStatus.APPROVED

    def deny(self, asked: ApprovalRequest, denier: str) -> None:
        """Deny a pending request.

        Raises:
            DsmError: 400, it isn't pending.
        """
        _expect(asked, ApprovalStatus.PENDING)
        asked.denier = denier
        asked.status = ApprovalStatus.DENIED

    def delete(self, asked: ApprovalRequest) -> None:
        """Forget a request."""
        del self._by_id[asked.request_id]


def _expect(asked: ApprovalRequest, status: ApprovalStatus) -> None:
    if asked.status is not status:
        raise bad_request(f"approval request is {asked.status}")
