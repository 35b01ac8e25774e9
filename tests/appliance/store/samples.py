"""One of each noun, with every field different from its default, so that a column mixed up with another shows."""

from appliance.domain import (
    Account,
    ApiKey,
    AutoscalingPolicy,
    DeployedModel,
    DeployedModelState,
    Deployment,
    DeploymentState,
    Footprint,
    IdentityProvider,
    Lease,
    LoadTarget,
    Model,
    ModelKind,
    ModelState,
    OidcConfig,
    Precision,
    ReplicaRow,
    Role,
    ScalingDecision,
    ScalingSchedule,
    Secret,
    ShapePreset,
    SuspendState,
    User,
)
from appliance.store import accounts, users
from appliance.store.database import Database
from models.info import AddonInfo, AttentionInfo, ModelInfo

NOW = 1_700_000_000.25

ACCOUNT = Account(
    id="acme",
    display_name="Acme",
    email="it@acme.test",
    suspend_state=SuspendState.CREDIT_DEPLETED,
    created_at=1.5,
    updated_at=2.5,
)
USER = User(
    account_id="acme",
    id="ada",
    display_name="Ada",
    email="ada@acme.test",
    role=Role.CONTRIBUTOR,
    is_service_account=True,
    created_at=1.5,
    updated_at=2.5,
)
API_KEY = ApiKey(
    account_id="acme",
    user_id="ada",
    id="key",
    display_name="laptop",
    secret_sha256=bytes(range(32)),
    annotations={"team": "search"},
    created_at=1.5,
    expires_at=3.5,
    email="ada@acme.test",
)
SECRET = Secret(
    account_id="acme",
    id="wandb",
    key_name="WANDB_API_KEY",
    sealed_value=bytes(range(64)),
    created_at=1.5,
    updated_at=2.5,
)
OIDC_PROVIDER = IdentityProvider(
    account_id="acme",
    id="login",
    display_name="Login",
    oidc=OidcConfig(issuer_url="https://login.acme.test", client_id="box", sealed_client_secret=bytes(range(200, 256))),
    tenant_domains=["acme.test", "acme.example"],
    provisions_users=True,
    provisioned_role=Role.CONTRIBUTOR,
    allows_idp_initiated=True,
    created_at=1.5,
    updated_at=2.5,
)
INFO = ModelInfo(
    architecture="LlamaForCausalLM",
    model_type="llama",
    dtype="bfloat16",
    num_parameters=1,
    weight_bytes=2,
    tied_embeddings=True,
    vocab_size=3,
    hidden_size=4,
    intermediate_size=5,
    attention=AttentionInfo(
        num_layers=6, num_heads=7, num_kv_heads=8, head_size=9, value_head_size=10, sliding_window=11
    ),
    max_context_length=12,
    has_chat_template=True,
    eos_token_ids=[13],
    default_sampling={"top_p": 0.9},
    warnings=["remote code"],
    file_sha256={"config.json": "ab"},
)
MODEL = Model(
    account_id="acme",
    id="poet",
    display_name="Poet",
    description="rhymes",
    kind=ModelKind.HF_PEFT_ADDON,
    state=ModelState.READY,
    status_message="fine",
    is_public=True,
    is_serverless=True,
    directory="d1",
    info=INFO,
    base_model="accounts/acme/models/base",
    addon_info=AddonInfo(
        rank=1,
        scaling=2.5,
        target_modules=["q_proj"],
        dtype="bfloat16",
        num_parameters=3,
        weight_bytes=4,
        base_model="b",
        warnings=["odd"],
        file_sha256={"adapter_config.json": "cd"},
    ),
    created_by="ada",
    created_at=1.5,
    updated_at=2.5,
)
DEPLOYMENT = Deployment(
    account_id="acme",
    id="fast",
    display_name="Fast",
    description="for the shop",
    base_model=MODEL.name,
    state=DeploymentState.FAILED,
    status_message="no room",
    min_replica_count=2,
    max_replica_count=5,
    desired_replica_count=3,
    accelerator_type="NVIDIA_H100_80GB",
    accelerator_count=4,
    precision=Precision.FP16,
    max_context_length=4096,
    draft_model="accounts/acme/models/apprentice",
    draft_token_count=6,
    ngram_speculation_length=3,
    autoscaling=AutoscalingPolicy(
        scale_up_window_s=1.0,
        scale_down_window_s=2.0,
        scale_to_zero_window_s=3.0,
        load_targets={LoadTarget.CONCURRENT_REQUESTS: 7.0},
        scaling_schedules={
            "mornings": ScalingSchedule(
                min_replica_count=2,
                schedule="0 8 * * *",
                duration_s=3600.0,
                timezone="Europe/Berlin",
                description="before the shop opens",
                is_disabled=True,
            )
        },
    ),
    auto_delete_s=60.0,
    shape="accounts/acme/deploymentShapes/fast/versions/1",
    shape_preset=ShapePreset.FAST,
    kv_cache_fraction=0.5,
    enable_addons=True,
    enable_session_affinity=False,
    is_pinned=True,
    may_evict=False,
    is_serverless=True,
    annotations={"team": "shop"},
    created_by="ada",
    revision=3,
    termination_message="out of memory",
    created_at=1.5,
    updated_at=2.5,
    last_used_at=2.75,
    expires_at=9.5,
    deleted_at=3.5,
    purge_at=4.5,
)
DEPLOYED_MODEL = DeployedModel(
    account_id="acme",
    id="served",
    model=MODEL.name,
    deployment=DEPLOYMENT.name,
    is_default=True,
    state=DeployedModelState.UNDEPLOYING,
    status_message="still answering",
    has_failed=True,
    display_name="Served",
    description="in the shop",
    is_public=True,
    created_at=1.5,
    updated_at=2.5,
)
REPLICA = ReplicaRow(
    account_id="acme",
    deployment_id="fast",
    index=7,
    device_ids=["GPU-1", "GPU-2"],
    reserved_bytes=2**40,
    pid=4242,
    pid_started_ticks=2**33,
    boot_id="b00t",
    started_at=1.5,
)
SCALING_DECISION = ScalingDecision(
    account_id="acme", deployment_id="fast", at=1.5, from_count=1, to_count=2, reason="7 requests at once"
)
FOOTPRINT = Footprint(key="k", num_bytes=2**40, kv_bytes=2**33, load_s=5.5, warm_load_s=1.25, measured_at=1.5)
LEASE = Lease(
    id="lent",
    account_id="acme",
    user_id="ada",
    device_ids=["GPU-1", "GPU-2"],
    num_bytes=2**35,
    command="python",
    created_at=1.5,
    expires_at=2.5,
)


async def insert_account(database: Database) -> None:
    """What the rows of other tables refer to."""
    async with database.transaction() as tx:
        await accounts.insert(tx, ACCOUNT)
        await users.insert(tx, USER)
