from appliance.sdk.audit_logs import AuditLogs
from tests.appliance.sdk.recording_transport import RecordingTransport

ENTRY = {
    "id": "7",
    "principal": "alice@example.com",
    "method": "CreateModel",
    "status": {"code": "OK"},
    "payload": {"fields": ["kind"]},
    "fieldOfTomorrow": 1,
}


def test_the_log_is_read_page_by_page_with_what_was_asked() -> None:
    transport = RecordingTransport(
        {"auditLogs": [ENTRY], "nextPageToken": "more"}, {"auditLogs": [{"id": "6"}], "nextPageToken": ""}
    )
    first, second = AuditLogs(transport).list(start_time="2026-01-01T00:00:00Z", email="alice", filter="method:Create")
    assert (first.id, first.payload.fields, first.payload.count) == ("7", ["kind"], 1)
    assert (second.id, second.status.code) == ("6", "OK")
    for call in transport.calls:
        assert call.path == "/v1/accounts/acme/auditLogs"
        assert (call.query["startTime"], call.query["email"]) == ("2026-01-01T00:00:00Z", "alice")
        assert call.query["filter"] == "method:Create"
    assert transport.calls[1].query["pageToken"] == "more"
