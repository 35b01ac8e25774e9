from appliance.api.data.unserved_images import ROUTES
from tests.appliance.api.conftest import Api
from tests.appliance.api.data.painters import make_painter, post


async def test_what_is_not_served_is_refused_by_its_name(api: Api) -> None:
    model = await make_painter(api)
    names = []
    for route in ROUTES:
        path = route.path.replace("accounts/{account_id}/models/{model_id}", model)
        answer = await post(api, path, {"prompt": "a fox"})
        assert answer.refusal == (400, "model_id")
        names.append(answer.json["error"]["message"])
        nowhere = route.path.format(account_id="hearth", model_id="nobody")
        assert (await post(api, nowhere, {"prompt": "a fox"})).status == 404
    for name in ("qr_code", "Kontext", "get_result", "image_to_video", "animate"):
        assert any(name in message for message in names)
    assert not api.router.tasks
