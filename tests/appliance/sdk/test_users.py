from appliance.sdk.users import Users
from tests.appliance.sdk.recording_transport import RecordingTransport

USERS = "/v1/accounts/acme/users"
ADA = {"name": "accounts/acme/users/ada", "role": "user"}


def test_the_id_is_in_the_query_and_what_is_not_said_is_left_to_the_server() -> None:
    transport = RecordingTransport(ADA, ADA, ADA, {})
    users = Users(transport)
    users.create("ada", role="user", email="ada@acme.test", service_account=None)
    users.update("ada", role="admin")
    assert users.get("accounts/acme/users/ada").role == "user"
    users.delete("ada")
    create, *others = transport.calls
    assert (create.method, create.path, create.query) == ("POST", USERS, {"userId": "ada"})
    assert create.body == {"role": "user", "email": "ada@acme.test"}
    assert [(call.method, call.path, call.body) for call in others] == [
        ("PATCH", f"{USERS}/ada", {"role": "admin"}),
        ("GET", f"{USERS}/ada", None),
        ("DELETE", f"{USERS}/ada", None),
    ]


def test_users_are_listed_page_by_page() -> None:
    transport = RecordingTransport({"users": [ADA], "nextPageToken": "t"}, {"users": []})
    assert [user.name for user in Users(transport).list(order_by="role")] == ["accounts/acme/users/ada"]
    assert {call.query["orderBy"] for call in transport.calls} == {"role"}
