"""Objects to do something to, each made by a function of its own: a new collection needs one in MAKERS."""

import hashlib
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from appliance.config import GIB
from appliance.domain import (
    ApiKey,
    Dataset,
    DatasetFile,
    DatasetState,
    DeployedModel,
    DeployedModelState,
    Deployment,
    DeploymentShape,
    DeploymentState,
    IdentityProvider,
    Lease,
    Model,
    ModelState,
    OidcConfig,
    Operation,
    QuotaMetric,
    Reservation,
    Role,
    Secret,
    User,
)
from appliance.services.key_format import generate_key
from appliance.store import (
    api_keys,
    datasets,
    deployed_models,
    deployment_shapes,
    deployments,
    identity_providers,
    leases,
    models,
    operations,
    reservations,
    secrets,
    users,
)
from appliance.store.database import Transaction
from models.info import AnyServedInfo
from tests.appliance.api.conftest import DEVICES, INFO, READY_MODEL
from tests.fakes.scripted_drawing import PAINTER
from tests.fakes.scripted_speech import LISTENER
from tests.fakes.scripted_tasks import EMBEDDER, RANKER

_numbers = itertools.count(1)

NUM_EXAMPLES = 4
EXAMPLES = b'{"prompt": "1 + 1 = ", "completion": "2"}\n' * NUM_EXAMPLES
DATASET_FILE = "examples.jsonl"


class Owner(NamedTuple):
    account_id: str
    user_id: str


class Making(NamedTuple):
    """What a maker has to do with."""

    tx: Transaction
    owner: Owner
    data_dir: Path


Maker = Callable[[Making], Awaitable[str]]


def new_id() -> str:
    return f"sample-{next(_numbers)}"


async def make_model(making: Making, state: ModelState = ModelState.READY, info: AnyServedInfo = INFO) -> str:
    id = new_id()
    model = Model(
        account_id=making.owner.account_id,
        id=id,
        state=state,
        directory=id,
        info=info if state is ModelState.READY else None,
        created_by=making.owner.user_id,
        created_at=making.tx.now,
        updated_at=making.tx.now,
    )
    await models.insert(making.tx, model)
    return id


async def make_uploading_model(making: Making) -> str:
    return await make_model(making, ModelState.UPLOADING)


async def make_dataset(making: Making, state: DatasetState = DatasetState.READY) -> str:
    id = new_id()
    folder = making.data_dir / "datasets" / id
    folder.mkdir()
    (folder / DATASET_FILE).write_bytes(EXAMPLES)
    digest = hashlib.sha256(EXAMPLES).hexdigest()
    dataset = Dataset(
        account_id=making.owner.account_id,
        id=id,
        state=state,
        example_count=NUM_EXAMPLES if state is DatasetState.READY else None,
        directory=id,
        files=[DatasetFile(filename=DATASET_FILE, size_bytes=len(EXAMPLES), sha256=digest)],
        size_bytes=len(EXAMPLES),
        created_by=making.owner.user_id,
        created_at=making.tx.now,
        updated_at=making.tx.now,
    )
    await datasets.insert(making.tx, dataset)
    return id


async def make_uploading_dataset(making: Making) -> str:
    return await make_dataset(making, DatasetState.UPLOADING)


async def make_deployment(
    making: Making, state: DeploymentState = DeploymentState.READY, base_model: str = READY_MODEL
) -> str:
    id = new_id()
    is_gone = state is DeploymentState.DELETED
    deployment = Deployment(
        account_id=making.owner.account_id,
        id=id,
        base_model=base_model,
        state=state,
        desired_replica_count=0,
        created_by=making.owner.user_id,
        created_at=making.tx.now,
        updated_at=making.tx.now,
        deleted_at=making.tx.now if is_gone else None,
        purge_at=making.tx.now + 3600.0 if is_gone else None,
    )
    await deployments.insert(making.tx, deployment)
    return id


async def make_deleted_deployment(making: Making) -> str:
    return await make_deployment(making, DeploymentState.DELETED)


async def make_deployed_model(making: Making) -> str:
    deployed = DeployedModel(
        account_id=making.owner.account_id,
        id=new_id(),
        model=READY_MODEL,
        deployment=f"accounts/{making.owner.account_id}/deployments/{await make_deployment(making)}",
        is_default=False,
        state=DeployedModelState.DEPLOYED,
        created_at=making.tx.now,
        updated_at=making.tx.now,
    )
    await deployed_models.insert(making.tx, deployed)
    return deployed.id


async def make_shape(making: Making) -> str:
    shape = DeploymentShape(
        account_id=making.owner.account_id,
        id=new_id(),
        number=1,
        base_model=READY_MODEL,
        created_by=making.owner.user_id,
        created_at=making.tx.now,
        updated_at=making.tx.now,
    )
    await deployment_shapes.insert(making.tx, shape)
    return shape.id


async def make_served_model(making: Making, info: AnyServedInfo = INFO) -> str:
    """By its full name, which leads to a deployment of its own account."""
    account_id, model_id = making.owner.account_id, await make_model(making, info=info)
    name = f"accounts/{account_id}/models/{model_id}"
    deployment_id = await make_deployment(making, base_model=name)
    await deployed_models.insert(
        making.tx,
        DeployedModel(
            account_id=account_id,
            id=new_id(),
            model=name,
            deployment=f"accounts/{account_id}/deployments/{deployment_id}",
            is_default=True,
            state=DeployedModelState.DEPLOYED,
            created_at=making.tx.now,
            updated_at=making.tx.now,
        ),
    )
    return name


async def make_served_embedder(making: Making) -> str:
    return await make_served_model(making, EMBEDDER)


async def make_served_ranker(making: Making) -> str:
    return await make_served_model(making, RANKER)


async def make_served_listener(making: Making) -> str:
    return await make_served_model(making, LISTENER)


async def make_served_painter(making: Making) -> str:
    return await make_served_model(making, PAINTER)


async def make_painter_in_path(making: Making) -> str:
    """By its id."""
    return (await make_served_painter(making)).rpartition("/")[2]


async def name_version(making: Making) -> str:
    return "v1"


async def make_reservation(making: Making) -> str:
    reservation = Reservation(
        account_id=making.owner.account_id,
        id=new_id(),
        accelerator_type=DEVICES[0].accelerator_type,
        device_ids=[],
        starts_at=making.tx.now,
        created_by=making.owner.user_id,
        created_at=making.tx.now,
        updated_at=making.tx.now,
    )
    await reservations.insert(making.tx, reservation)
    return reservation.id


async def make_user(making: Making) -> str:
    id = new_id()
    await users.insert(
        making.tx,
        User(
            account_id=making.owner.account_id,
            id=id,
            role=Role.USER,
            created_at=making.tx.now,
            updated_at=making.tx.now,
        ),
    )
    return id


async def name_owner(making: Making) -> str:
    return making.owner.user_id


async def make_key(making: Making) -> str:
    parts = generate_key()
    key = ApiKey(
        account_id=making.owner.account_id,
        user_id=making.owner.user_id,
        id=parts.id,
        secret_sha256=parts.secret_sha256,
        created_at=making.tx.now,
    )
    await api_keys.insert(making.tx, key)
    return key.id


async def make_secret(making: Making) -> str:
    secret = Secret(
        account_id=making.owner.account_id,
        id=new_id(),
        key_name="TOKEN",
        sealed_value=b"sealed",
        created_at=making.tx.now,
        updated_at=making.tx.now,
    )
    await secrets.insert(making.tx, secret)
    return secret.id


async def make_identity_provider(making: Making) -> str:
    id = new_id()
    provider = IdentityProvider(
        account_id=making.owner.account_id,
        id=id,
        display_name="",
        oidc=OidcConfig(issuer_url="https://login.example.com", client_id="hearth", sealed_client_secret=b"sealed"),
        tenant_domains=[f"{id}.example.com"],
        created_at=making.tx.now,
        updated_at=making.tx.now,
    )
    await identity_providers.insert(making.tx, provider)
    return id


async def make_operation(making: Making) -> str:
    operation = Operation(
        account_id=making.owner.account_id,
        id=new_id(),
        model=f"accounts/{making.owner.account_id}/models/{new_id()}",
        source="a folder",
        created_by=making.owner.user_id,
        created_at=making.tx.now,
        updated_at=making.tx.now,
    )
    await operations.insert(making.tx, operation)
    return operation.id


async def make_lease(making: Making) -> str:
    lease = Lease(
        id=new_id(),
        account_id=making.owner.account_id,
        user_id=making.owner.user_id,
        device_ids=[DEVICES[0].id],
        num_bytes=GIB,
        created_at=making.tx.now,
        expires_at=making.tx.now + 3600.0,
    )
    await leases.insert(making.tx, lease)
    return lease.id


async def name_cluster(making: Making) -> str:
    return "local"


async def name_page_part(making: Making) -> str:
    return "page.css"


async def name_nothing(making: Making) -> str:
    return "nothing"


async def name_quota(making: Making) -> str:
    return QuotaMetric.REQUESTS


MAKERS: dict[str, Maker] = {
    "asset": name_page_part,
    "cluster_id": name_cluster,
    "dataset_id": make_dataset,
    "deployed_model_id": make_deployed_model,
    "deployment_id": make_deployment,
    "deployment_shape_id": make_shape,
    "identity_provider_id": make_identity_provider,
    "filename": name_nothing,
    "key_id": make_key,
    "lease_id": make_lease,
    "model": make_served_model,
    "model_id": make_model,
    "operation_id": make_operation,
    "quota_id": name_quota,
    "reservation_id": make_reservation,
    "secret_id": make_secret,
    "token": name_nothing,
    "user_id": make_user,
    "version_id": name_version,
}
"""By parameter of the path."""
