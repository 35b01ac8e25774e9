"""Deployed models as a client sees them: where a model is served, LoRA addons loaded and unloaded."""

from collections.abc import Iterator

from appliance.sdk.resources import (
    Empty,
    Resource,
    Status,
    Transport,
    camel,
    collection_path,
    pages,
    resource_path,
    selection,
)

COLLECTION = "deployedModels"


class DeployedModel(Resource, frozen=True, kw_only=True):
    name: str
    display_name: str = ""
    description: str = ""
    model: str = ""
    deployment: str = ""
    default: bool = False
    """Whether the model's plain name leads here."""
    public: bool = False
    state: str = ""
    status: Status = Status()
    create_time: str | None = None
    update_time: str | None = None


class DeployedModelPage(Resource, frozen=True, kw_only=True):
    deployed_models: list[DeployedModel]
    next_page_token: str = ""


class DeployedModels:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, model: str, *, deployment: str | None = None, **fields: object) -> DeployedModel:
        """Without a deployment the server takes the only one that can serve the model.

        `fields` are those of `DeployedModel`, in this language's spelling; None leaves one to the server.
        """
        body = {"model": model, "deployment": deployment} | _given(fields)
        return self._transport.call("POST", collection_path(self._transport, COLLECTION), DeployedModel, body=body)

    def get(self, deployed_model: str) -> DeployedModel:
        return self._transport.call("GET", self._path(deployed_model), DeployedModel)

    def list(self, *, filter: str = "", order_by: str = "") -> Iterator[DeployedModel]:
        query = selection(filter, order_by)
        for page in pages(self._transport, collection_path(self._transport, COLLECTION), DeployedModelPage, query):
            yield from page.deployed_models

    def update(self, deployed_model: str, **fields: object) -> DeployedModel:
        """What is not given stays as it is."""
        return self._transport.call("PATCH", self._path(deployed_model), DeployedModel, body=_given(fields))

    def delete(self, deployed_model: str) -> None:
        self._transport.call("DELETE", self._path(deployed_model), Empty)

    def _path(self, deployed_model: str) -> str:
        return resource_path(self._transport, COLLECTION, deployed_model)


def _given(fields: dict[str, object]) -> dict[str, object]:
    return {camel(name): value for name, value in fields.items() if value is not None}
