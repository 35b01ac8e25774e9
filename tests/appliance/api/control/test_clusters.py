from typing import Any

from tests.appliance.api.conftest import DEVICES, Api

PATH = "/v1/accounts/hearth/clusters"


async def get(api: Api, path: str) -> tuple[int, Any]:
    async with api.session.get(path, headers=api.bearer()) as response:
        return response.status, await response.json()


async def test_the_box_is_the_one_cluster(api: Api) -> None:
    status, listed = await get(api, PATH)
    assert (status, listed["totalSize"]) == (200, 1)
    cluster = listed["clusters"][0]
    assert cluster["name"] == "accounts/hearth/clusters/local"
    assert (cluster["state"], cluster["region"]) == ("READY", "LOCAL")
    assert cluster["acceleratorCounts"] == {DEVICES[0].accelerator_type: len(api.services.node.inventory.devices)}
    assert await get(api, f"{PATH}/local") == (200, cluster)
    assert (await get(api, f"{PATH}/other"))[0] == 404
    assert (await get(api, "/v1/accounts/other/clusters"))[0] == 404


async def test_it_says_where_it_is_asked(api: Api) -> None:
    status, info = await get(api, f"{PATH}/local:getConnectionInfo")
    assert (status, info["endpoint"]) == (200, api.url)
