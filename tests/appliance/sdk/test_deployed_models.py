from appliance.sdk.deployed_models import DeployedModels
from tests.appliance.sdk.recording_transport import RecordingTransport

PATH = "/v1/accounts/acme/deployedModels"


def deployed(name: str) -> dict[str, object]:
    return {"name": name, "model": "accounts/acme/models/m", "state": "DEPLOYING", "fieldOfTomorrow": 1}


def test_what_is_not_said_is_left_to_the_server() -> None:
    transport = RecordingTransport(deployed("a"), deployed("a"))
    resource = DeployedModels(transport)
    assert resource.create("m", display_name="Mine", public=None).state == "DEPLOYING"
    resource.update("a", default=True, public=False)
    create, update = transport.calls
    assert (create.method, create.path) == ("POST", PATH)
    assert create.body == {"model": "m", "deployment": None, "displayName": "Mine"}
    assert (update.method, update.path, update.body) == ("PATCH", f"{PATH}/a", {"default": True, "public": False})


def test_a_list_asks_for_every_page_with_its_filter_and_order() -> None:
    pages = ({"deployedModels": [deployed("a")], "nextPageToken": "t"}, {"deployedModels": [deployed("b")]})
    transport = RecordingTransport(*pages)
    listed = DeployedModels(transport).list(filter='model="m"', order_by="name desc")
    assert [each.name for each in listed] == ["a", "b"]
    assert {(call.query["filter"], call.query["orderBy"]) for call in transport.calls} == {('model="m"', "name desc")}


def test_a_full_name_may_belong_to_another_account() -> None:
    transport = RecordingTransport(deployed("a"), {})
    resource = DeployedModels(transport)
    resource.get("accounts/other/deployedModels/a")
    resource.delete("a")
    paths = [(call.method, call.path) for call in transport.calls]
    assert paths == [("GET", "/v1/accounts/other/deployedModels/a"), ("DELETE", f"{PATH}/a")]
