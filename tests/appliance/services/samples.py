"""People of two accounts, and rows to put into the store. `home` is the account of this box, `library` everybody's."""

from msgspec.structs import replace

from appliance.domain import (
    Account,
    DeployedModel,
    DeployedModelState,
    Deployment,
    DeploymentState,
    Model,
    ModelKind,
    ModelState,
    Principal,
    Role,
    User,
)
from appliance.store import accounts, deployed_models, deployments, models, users
from appliance.store.database import Database
from models.info import AddonInfo, AttentionInfo, ModelInfo

ACCOUNT_IDS = ("acme", "globex", "library")
SIGNING_KEY = b"k" * 32


def account(account_id: str) -> Account:
    return Account(id=account_id, created_at=0.0, updated_at=0.0)


def user(account_id: str, user_id: str, role: Role) -> User:
    return User(account_id=account_id, id=user_id, role=role, created_at=0.0, updated_at=0.0)


def principal(account_id: str = "acme", user_id: str = "ada", role: Role = Role.USER) -> Principal:
    return Principal(account_id=account_id, user_id=user_id, key_id="key", role=role)


ADA = principal()
GUS = principal("globex", "gus")
HOME_ADMIN = principal("home", "admin", Role.ADMIN)

INFO = ModelInfo(
    architecture="LlamaForCausalLM",
    model_type="llama",
    dtype="float32",
    num_parameters=1000,
    weight_bytes=4000,
    tied_embeddings=False,
    vocab_size=320,
    hidden_size=64,
    intermediate_size=128,
    attention=AttentionInfo(num_layers=2, num_heads=4, num_kv_heads=2, head_size=16, value_head_size=16),
    max_context_length=512,
    has_chat_template=True,
    eos_token_ids=[1],
)


def model(account_id: str, model_id: str, *, is_public: bool = False, state: ModelState = ModelState.READY) -> Model:
    return Model(
        account_id=account_id,
        id=model_id,
        state=state,
        is_public=is_public,
        directory=f"{account_id}-{model_id}",
        info=INFO if state is ModelState.READY else None,
        created_by="ada",
        created_at=0.0,
        updated_at=0.0,
    )


ADDON_INFO = AddonInfo(
    rank=8, scaling=2.0, target_modules=["q_proj"], dtype="float32", num_parameters=10, weight_bytes=40
)


def addon(account_id: str, model_id: str, base: Model, *, is_public: bool = False, rank: int = 8) -> Model:
    return replace(
        model(account_id, model_id, is_public=is_public),
        kind=ModelKind.HF_PEFT_ADDON,
        info=None,
        base_model=base.name,
        addon_info=replace(ADDON_INFO, rank=rank),
    )


def deployment(account_id: str, deployment_id: str, base_model: str, **changes: object) -> Deployment:
    fields: dict[str, object] = {
        "account_id": account_id,
        "id": deployment_id,
        "base_model": base_model,
        "state": DeploymentState.READY,
        "desired_replica_count": 1,
        "created_by": "ada",
        "created_at": 0.0,
        "updated_at": 0.0,
    }
    return Deployment(**(fields | changes))  # type: ignore[arg-type]


def deployed(
    on: Deployment, deployed_model_id: str, *, is_default: bool = True, model: Model | None = None, **changes: object
) -> DeployedModel:
    """Its base model, unless another one is given."""
    base = DeployedModel(
        account_id=on.account_id,
        id=deployed_model_id,
        model=on.base_model if model is None else model.name,
        deployment=on.name,
        is_default=is_default,
        state=DeployedModelState.DEPLOYED,
        created_at=on.created_at,
        updated_at=0.0,
    )
    return replace(base, **changes)


async def put(database: Database, *rows: Account | User | Model | Deployment | DeployedModel) -> None:
    async with database.transaction() as tx:
        for row in rows:
            match row:
                case Account():
                    await accounts.insert(tx, row)
                case User():
                    await users.insert(tx, row)
                case Model():
                    await models.insert(tx, row)
                case Deployment():
                    await deployments.insert(tx, row)
                case DeployedModel():
                    await deployed_models.insert(tx, row)
