"""The audit log as a client sees it. Knows paths and fields, never sockets."""

from collections.abc import Iterator

from appliance.sdk.resources import Resource, Status, Transport, collection_path, pages, selection

AUDIT_LOGS = "auditLogs"


class AuditPayload(Resource, frozen=True, kw_only=True):
    fields: list[str] = []
    """Of the resource that were given."""
    request_id: str = ""
    count: int = 1
    """How many refusals the entry stands for."""


class AuditLogEntry(Resource, frozen=True, kw_only=True):
    id: str
    timestamp: str | None = None
    principal: str = ""
    method: str = ""
    resource: str = ""
    message: str = ""
    status: Status = Status()
    payload: AuditPayload = AuditPayload()
    is_admin_action: bool = False
    api_key_id: str = ""
    client_ip: str = ""
    user_agent: str = ""


class AuditLogPage(Resource, frozen=True, kw_only=True):
    audit_logs: list[AuditLogEntry]
    next_page_token: str = ""


class AuditLogs:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        start_time: str | None = None,
        end_time: str | None = None,
        email: str = "",
        filter: str = "",
        order_by: str = "",
    ) -> Iterator[AuditLogEntry]:
        """The newest first. Times are RFC 3339; by default it is the last 30 days."""
        query = {"startTime": start_time, "endTime": end_time, "email": email} | selection(filter, order_by)
        for page in pages(self._transport, collection_path(self._transport, AUDIT_LOGS), AuditLogPage, query):
            yield from page.audit_logs
