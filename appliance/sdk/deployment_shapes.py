"""Deployment shapes as a client sees them: presets of what a deployment may spend, in versions."""

from collections.abc import Iterator
from urllib.parse import quote

from appliance.sdk.resources import Empty, Resource, Transport, camel, collection_path, pages, resource_path, selection

COLLECTION = "deploymentShapes"
ANY_SHAPE = "-"


class DeploymentShape(Resource, frozen=True, kw_only=True):
    name: str
    display_name: str = ""
    description: str = ""
    preset_type: str = ""
    base_model: str = ""
    """Empty, with all that follows from a model, in a shape that is for every model."""
    model_type: str = ""
    accelerator_type: str = ""
    accelerator_count: int = 0
    precision: str = ""
    max_context_length: int = 0
    enable_addons: bool = False
    memory_bytes: str = ""
    """What a replica would take of each device."""
    create_time: str | None = None
    update_time: str | None = None


class DeploymentShapeVersion(Resource, frozen=True, kw_only=True):
    name: str
    snapshot: DeploymentShape
    validated: bool = False
    public: bool = False
    latest_validated: bool = False
    create_time: str | None = None


class ShapePage(Resource, frozen=True, kw_only=True):
    deployment_shapes: list[DeploymentShape]
    next_page_token: str = ""


class VersionPage(Resource, frozen=True, kw_only=True):
    deployment_shape_versions: list[DeploymentShapeVersion]
    next_page_token: str = ""


class DeploymentShapes:
    """Of an account; the box's own presets are the library account's."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, shape: str) -> DeploymentShape:
        return self._transport.call("GET", resource_path(self._transport, COLLECTION, shape), DeploymentShape)

    def list(self, *, target_model: str = "", filter: str = "", order_by: str = "") -> Iterator[DeploymentShape]:
        """With a model, those that fit it here, with the numbers that it would have."""
        query = {"targetModel": target_model, **selection(filter, order_by)}
        for page in pages(self._transport, collection_path(self._transport, COLLECTION), ShapePage, query):
            yield from page.deployment_shapes

    def create(self, base_model: str, shape_id: str = "", **fields: object) -> DeploymentShape:
        """`fields` are those of a shape, in this language's spelling."""
        body = {"baseModel": base_model} | {camel(name): value for name, value in fields.items()}
        path, query = collection_path(self._transport, COLLECTION), {"deploymentShapeId": shape_id}
        return self._transport.call("POST", path, DeploymentShape, query, body)

    def update(self, shape: str, **fields: object) -> DeploymentShape:
        """A new version; what is not given stays as it is."""
        body = {camel(name): value for name, value in fields.items()}
        path = resource_path(self._transport, COLLECTION, shape)
        return self._transport.call("PATCH", path, DeploymentShape, body=body)

    def delete(self, shape: str) -> None:
        """With all versions."""
        self._transport.call("DELETE", resource_path(self._transport, COLLECTION, shape), Empty)

    def publish(self, version: str, is_public: bool) -> DeploymentShapeVersion:
        """Let other accounts see and use a version, or no longer."""
        return self._transport.call(
            "PATCH", self._version_path(version), DeploymentShapeVersion, body={"public": is_public}
        )

    def get_version(self, version: str) -> DeploymentShapeVersion:
        """By its full name, or as SHAPE/versions/VERSION or SHAPE/VERSION."""
        return self._transport.call("GET", self._version_path(version), DeploymentShapeVersion)

    def list_versions(
        self, shape: str = ANY_SHAPE, *, filter: str = "", order_by: str = ""
    ) -> Iterator[DeploymentShapeVersion]:
        path = f"{resource_path(self._transport, COLLECTION, shape)}/versions"
        for page in pages(self._transport, path, VersionPage, selection(filter, order_by)):
            yield from page.deployment_shape_versions

    def match(self, base_model: str) -> Iterator[DeploymentShapeVersion]:
        """Those that a deployment of a model could be created with here, with the numbers that it would have."""
        path = f"{collection_path(self._transport, 'deploymentShapeVersions')}:match"
        body = {"createDeploymentRequest": {"deployment": {"baseModel": base_model}}}
        yield from self._transport.call("POST", path, VersionPage, body=body).deployment_shape_versions

    def _version_path(self, version: str) -> str:
        shape, _, version_id = version.replace("/versions/", "/").rpartition("/")
        return f"{resource_path(self._transport, COLLECTION, shape)}/versions/{quote(version_id, safe='')}"
