from appliance.api.app import ROUTES
from tests.appliance.api.conftest import Api
from tests.appliance.api.description.test_operations import responses_of


async def test_every_answer_has_the_headers_that_it_must_have(api: Api) -> None:
    for route in ROUTES:
        required = {name for name, header in responses_of(route)["200"]["headers"].items() if header.get("required")}
        assert required == {"x-request-id"}
    async with api.session.get("/health") as response:
        assert response.headers["x-request-id"]
