from appliance.sdk.reservations import Clusters, Reservations
from tests.appliance.sdk.recording_transport import RecordingTransport

PATH = "/v1/accounts/acme/reservations"


def reserved(name: str) -> dict[str, object]:
    return {"name": name, "acceleratorType": "X", "reservedCount": 2, "fieldOfTomorrow": 1}


def test_what_is_not_said_is_left_to_the_server() -> None:
    transport = RecordingTransport(reserved("a"), reserved("a"), reserved("a"), {})
    reservations = Reservations(transport)
    assert reservations.create("X", 2, reservation_id="a", end_time="2030-01-31T00:00:00Z", start_time=None).name == "a"
    reservations.update("a", display_name="Week", description=None)
    reservations.get("accounts/other/reservations/a")
    reservations.delete("a")
    create, update, get, delete = transport.calls
    assert (create.method, create.path, create.query["reservationId"]) == ("POST", PATH, "a")
    assert create.body == {"acceleratorType": "X", "reservedCount": 2, "endTime": "2030-01-31T00:00:00Z"}
    assert (update.method, update.path, update.body) == ("PATCH", f"{PATH}/a", {"displayName": "Week"})
    assert (get.path, delete.method) == ("/v1/accounts/other/reservations/a", "DELETE")


def test_a_list_asks_for_every_page() -> None:
    pages = ({"reservations": [reserved("a")], "nextPageToken": "t"}, {"reservations": [reserved("b")]})
    assert [each.name for each in Reservations(RecordingTransport(*pages)).list(order_by="name")] == ["a", "b"]


def test_clusters_are_read() -> None:
    cluster = {"name": "accounts/acme/clusters/local", "acceleratorCounts": {"X": 4}}
    transport = RecordingTransport({"clusters": [cluster]}, cluster)
    clusters = Clusters(transport)
    assert [each.accelerator_counts for each in clusters.list()] == [{"X": 4}]
    assert clusters.get("local").name == "accounts/acme/clusters/local"
