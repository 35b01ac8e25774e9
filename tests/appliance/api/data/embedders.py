"""Models that embed and rank, with deployments, in the account of the API's tests; and how they are asked."""

from typing import Any

from msgspec.structs import replace

from appliance.domain import Role
from tests.appliance.api.conftest import Api
from tests.appliance.api.sample_objects import Making, Owner, make_served_model
from tests.fakes.scripted_tasks import EMBEDDER, RANKER

DECODER = replace(EMBEDDER, pooling="lasttoken", is_decoder=True, has_head=True, true_token_id=1, false_token_id=2)
"""A language model that embeds, tells logits and ranks."""
INFOS = {"embedder": EMBEDDER, "ranker": RANKER, "decoder": DECODER}


async def make_models(api: Api) -> dict[str, str]:
    """Their names, by kind."""
    async with api.services.node.database.transaction() as tx:
        making = Making(tx, Owner("hearth", Role.USER.value), api.services.config.data_dir)
        return {kind: await make_served_model(making, info) for kind, info in INFOS.items()}


async def post(
    api: Api, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
) -> tuple[int, Any, dict[str, str]]:
    """Status, body, and headers by lower-case name."""
    async with api.session.post(path, json=body, headers=api.bearer() | (headers or {})) as response:
        return response.status, await response.json(), {name.lower(): each for name, each in response.headers.items()}
