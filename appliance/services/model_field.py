"""What the `model` field of a request may say, in every spelling that clients use. Pure: looks nothing up."""

from collections.abc import Sequence
from typing import NamedTuple

from appliance.names import ResourceName


class ModelField(NamedTuple):
    """Which resources are meant; the first model that can be reached is taken."""

    models: Sequence[ResourceName] = ()
    deployment: ResourceName | None = None
    deployed_model: ResourceName | None = None


def parse_model_field(text: str, own_account_id: str, library_account_id: str) -> ModelField | None:
    """None: not a name at all. Ids are not checked: a wrong one leads nowhere, as one that does not exist."""
    model, separator, deployment = text.partition("#")
    if separator:
        pinned = parse_deployment(deployment)
        named = parse_model(model, own_account_id, library_account_id)
        return ModelField(models=named, deployment=pinned) if named and pinned else None
    match text.split("/"):
        case ["accounts", account_id, "deployments", deployment_id]:
            return ModelField(deployment=ResourceName(account_id, "deployments", deployment_id))
        case ["accounts", account_id, "deployedModels", deployed_model_id]:
            return ModelField(deployed_model=ResourceName(account_id, "deployedModels", deployed_model_id))
    named = parse_model(text, own_account_id, library_account_id)
    return ModelField(models=named) if named else None


def parse_model(text: str, own_account_id: str, library_account_id: str) -> list[ResourceName]:
    """A full name, ACCOUNT/ID, or a bare id, which means one's own model before the library's.

    OWNER/NAME of a hub, where it can be no ACCOUNT/ID, means the id that is made of it: `v1.5` is spelled `v1p5`.
    """
    match text.split("/"):
        case [_, hub_name] if (model_id := _id_of_hub(hub_name)) != hub_name:
            return [ResourceName(account_id, "models", model_id) for account_id in (own_account_id, library_account_id)]
        case ["accounts", account_id, "models", model_id] | [account_id, model_id]:
            return [ResourceName(account_id, "models", model_id)]
        case [model_id]:
            return [ResourceName(account_id, "models", model_id) for account_id in (own_account_id, library_account_id)]
    return []


def parse_deployment(text: str, own_account_id: str | None = None) -> ResourceName | None:
    """A full name or ACCOUNT/ID; a bare id only where it can mean nothing but one's own."""
    match text.split("/"):
        case ["accounts", account_id, "deployments", deployment_id] | [account_id, deployment_id]:
            return ResourceName(account_id, "deployments", deployment_id)
        case [deployment_id] if own_account_id is not None and deployment_id:
            return ResourceName(own_account_id, "deployments", deployment_id)
    return None


def _id_of_hub(name: str) -> str:
    return name.lower().replace(".", "p").replace("_", "-")
