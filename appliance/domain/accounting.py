"""What is counted and written down: quotas, usage, the audit log."""

from enum import StrEnum

from appliance.domain.nouns import Noun
from appliance.names import account_of


class QuotaMetric(StrEnum):
    """What can be limited; the ids of quotas. What each means: `services/quota_metrics.py`."""

    SERVERLESS_REQUESTS = "serverless-inference-rpm"
    REQUESTS = "requests-per-minute"
    PROMPT_TOKENS = "prompt-tokens-per-minute"
    GENERATED_TOKENS = "generated-tokens-per-minute"
    MONTHLY_TOKENS = "monthly-tokens"
    MONTHLY_ACCELERATOR_SECONDS = "monthly-accelerator-seconds"
    MONTHLY_SPEND = "monthly-spend-usd"
    REPLICAS = "replicas"
    DISK_BYTES = "disk-bytes"


class Quota(Noun, frozen=True, kw_only=True):
    """What an account, one of its users or one of its keys may use at most."""

    account_id: str
    subject: str = ""
    """`users/ID` or `apiKeys/ID`; empty: the account itself."""
    metric: QuotaMetric
    value: int | None = None
    """As the account's administrators set it; None: all that `max_value` allows."""
    max_value: int | None = None
    """As the box's administrators set it; None: no limit."""
    updated_at: float | None = None
    """None: nobody ever set it."""

    @property
    def limit(self) -> int | None:
        """What counts; None: no limit."""
        set_limits = [limit for limit in (self.value, self.max_value) if limit is not None]
        return min(set_limits, default=None)

    @property
    def name(self) -> str:
        holder = f"accounts/{self.account_id}/{self.subject}" if self.subject else f"accounts/{self.account_id}"
        return f"{holder}/quotas/{self.metric}"


class TokenUser(Noun, frozen=True, kw_only=True):
    """Who used tokens, of which base model, and where."""

    account_id: str
    user_id: str
    key_id: str
    deployment: str
    """Full name; may belong to another account."""
    model: str
    """Full name."""

    @property
    def is_dedicated(self) -> bool:
        """Whether the account's own deployment answered, of which the devices' time is paid, not the tokens."""
        return account_of(self.deployment) == self.account_id


class TokenCounts(Noun, frozen=True, kw_only=True):
    """As clients are told: a prompt once, however many choices it has; and what takes the place of tokens elsewhere."""

    num_requests: int = 0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    """Of the prompt tokens."""
    num_completion_tokens: int = 0
    audio_ms: int = 0
    """Of sound that was listened to."""
    num_images: int = 0
    """Pictures that were made."""

    @property
    def num_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_completion_tokens

    def plus(self, other: "TokenCounts", sign: int = 1) -> "TokenCounts":
        return TokenCounts(
            num_requests=self.num_requests + sign * other.num_requests,
            num_prompt_tokens=self.num_prompt_tokens + sign * other.num_prompt_tokens,
            num_cached_tokens=self.num_cached_tokens + sign * other.num_cached_tokens,
            num_completion_tokens=self.num_completion_tokens + sign * other.num_completion_tokens,
            audio_ms=self.audio_ms + sign * other.audio_ms,
            num_images=self.num_images + sign * other.num_images,
        )

    def minus(self, other: "TokenCounts") -> "TokenCounts":
        return self.plus(other, sign=-1)


class AcceleratorUser(Noun, frozen=True, kw_only=True):
    """Whose replicas held devices, and which."""

    account_id: str
    deployment: str
    """Full name."""
    base_model: str
    accelerator_type: str


class BudgetHold(Noun, frozen=True, kw_only=True):
    """A request under way whose account, user or key has a monthly budget."""

    id: str
    """Of the request."""
    user: TokenUser
    counts: TokenCounts
    """No less than it has used so far."""


class AuditEntry(Noun, frozen=True, kw_only=True):
    """One thing that somebody did, or was refused. Says which fields were given, never what they held."""

    account_id: str
    """Whose log it is in: the account of the resource."""
    at: float
    user_account_id: str
    """Of who did it; empty, with an empty user id: the appliance itself."""
    user_id: str
    key_id: str
    role: str = ""
    """That the key gave at that moment."""
    method: str
    resource: str
    """Full name; of a refusal the first of those that it stands for, as it was asked for."""
    outcome: str = "OK"
    """OK, or the code of the refusal, by its gRPC name."""
    message: str = ""
    fields: list[str] = []
    """Wire names of what a change was asked for."""
    count: int = 1
    """How many such attempts this one row stands for; more than 1 only of refusals."""
    request_id: str = ""
    client_address: str = ""
    user_agent: str = ""
