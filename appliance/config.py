"""Every setting, once: default, unit, meaning. One TOML file, then HEARTH_* environment; nothing else reads either.

Tables group the settings; names are unique across tables, so `HEARTH_` + the upper-case name is the variable.
"""

import os
import sys
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, get_type_hints

import msgspec

from appliance.errors import Code, HearthError
from appliance.media_settings import ImageSettings as ImageSettings
from appliance.media_settings import SpeechSettings as SpeechSettings
from appliance.section import GIB as GIB
from appliance.section import MIB as MIB
from appliance.section import Section as Section


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class ServerSettings(Section, frozen=True, kw_only=True):
    """The listening socket: where, for whom, how long it waits."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8080
    """0 takes a free one."""
    public_url: str | None = None
    """Base of signed URLs; default: what the client's Host header says."""
    allowed_hosts: list[str] = []
    """Names besides localhost, this machine's own, `host` and the public URL's that a Host header may carry."""
    header_timeout_s: float = 10.0
    """For a connection to send a complete request head."""
    body_timeout_s: float = 60.0
    """For a JSON body to arrive."""
    upload_idle_timeout_s: float = 30.0
    """Longest pause between two pieces of an uploaded file."""
    keepalive_timeout_s: float = 75.0
    """A connection without a request is closed after this long."""
    write_stall_timeout_s: float = 30.0
    """A client that takes nothing for this long loses its stream."""
    forecast_interval_s: float = 1.0
    """A streaming caller who waits for a replica reads so often how far it is; from the first time on its status is 200
    and a refusal comes as an event."""
    max_connections: int = 2048
    """Open at once; further ones are answered 503."""
    max_connections_per_address: int = 1024
    """Of one client address."""
    max_body_bytes: int = 32 * MIB
    """Of a request that is no upload of a file."""
    max_file_bytes: int = 1024 * GIB
    """Of one uploaded file."""
    drain_s: float = 30.0
    """SIGTERM waits this long for running requests."""


class IdentitySettings(Section, frozen=True, kw_only=True):
    """Whose machine it is."""

    account_id: str = "hearth"
    """The account of this machine's own users, made at the first start."""
    library_account_id: str = "fireworks"
    """Owns the built-in and other shared models."""
    failed_auth_per_minute: int = 60
    """Per client address; beyond it answers 429."""
    key_use_flush_s: float = 30.0
    """When API keys were last used is stored so often."""


class LimitSettings(Section, frozen=True, kw_only=True):
    """What one inference request may ask for."""

    n_max: int = 128
    """Answers to one prompt."""
    prompts_max: int = 128
    """Prompts in one completions request."""
    choices_max: int = 512
    """Prompts times n of one request."""
    stop_max: int = 4
    """Stop strings."""
    stop_length_max: int = 256
    """Characters of one stop string."""
    stop_token_ids_max: int = 64
    """Tokens at which an answer ends."""
    logit_bias_max: int = 1024
    """Tokens that one request may bias."""
    logprobs_max: int = 5
    """Likely tokens that are shown beside the chosen one."""
    messages_max: int = 4096
    """Messages of one conversation."""
    tools_max: int = 128
    """Functions that one request may offer."""
    embedding_inputs_max: int = 2048
    """Texts of one embeddings request."""
    rerank_documents_max: int = 2048
    """Documents that one request ranks."""
    embedding_bytes_max: int = 8 * MIB
    """Of all texts of one embeddings or rerank request, as they reach the model."""
    prompt_template_length_max: int = 16384
    """Characters of the template that an embeddings request may bring."""
    returned_logits_max: int = 1024
    """Tokens whose logits an embeddings request may ask for."""
    default_max_tokens: int = 2000
    """Longest answer to a request that does not say how long it may be, in tokens."""
    requests_in_flight_max: int = 4096
    """Over all deployments; beyond it answers 503."""
    request_deadline_s: float = 600.0
    """A request, from when a replica takes it, that is not finished by then is ended."""


class ImportSettings(Section, frozen=True, kw_only=True):
    """Models that come from elsewhere than a client."""

    import_roots: list[str] = []
    """Folders of this machine below which a model's folder may be imported from; none by default."""
    allow_hub: bool = False
    """Whether models may be imported from the hub."""
    hub_url: str = "https://huggingface.co"
    """The hub, or a mirror of it."""
    hub_stall_timeout_s: float = 60.0
    """A download that brings nothing for this long is begun again where it stopped, at most five times."""
    imports_max: int = 2
    """At the same time; others wait their turn."""
    operations_kept: int = 100
    """Of each account, of those that have ended."""

    def __post_init__(self) -> None:
        for root in self.import_roots:
            if not Path(root).is_absolute():
                raise ValueError(f"import_roots: {root!r} is no absolute path")


class DatasetSettings(Section, frozen=True, kw_only=True):
    """Examples to train and evaluate with."""

    dataset_upload_bytes_max: int = 150 * MIB
    """Of a file sent to `:upload` in one request; larger ones go to signed URLs, where `max_file_bytes` holds."""
    dataset_line_bytes_max: int = 16 * MIB
    """Of one example."""
    dataset_examples_max: int = 50_000_000
    """In one dataset."""
    dataset_chunks_max: int = 1000
    """That one dataset is split into."""
    dataset_preview_bytes: int = 1 * MIB
    """A preview ends with the example that exceeds this."""
    dataset_checks_max: int = 2
    """Datasets that are checked at the same time; others wait."""


class FleetSettings(Section, frozen=True, kw_only=True):
    """Devices, deployments and their workers."""

    simulated_gpus: str = ""
    """COUNTxTYPE, e.g. 4xNVIDIA_H100_80GB: pretend devices whose workers run on CPU."""
    cpu_memory_fraction: float = 0.8
    """Share of the host's memory that the CPU device offers."""
    cold_start_wait_s: float = 30.0
    """How long a request waits for a deployment with no ready replica."""
    max_batch_tokens: int = 2048
    """Tokens that a replica computes in one step on GPUs."""
    max_batch_tokens_on_cpu: int = 512
    """The same on a CPU: more is no faster there, and a long prompt would let nobody else have a token for seconds."""
    max_num_requests: int = 256
    """Requests that a replica runs at once; more wait."""
    block_size: int = 32
    """Tokens of one block of the KV cache."""
    embedding_batch_tokens: int = 16384
    """Tokens that a replica of an embedding model computes in one step."""
    whisper_batch_size: int = 8
    """Windows of up to 30 s that a replica of a Whisper model listens to in one step, of all callers together."""
    diffusion_batch_size: int = 4
    """Pictures of equal shape that a replica of an image model makes in one step."""
    picture_pixels_max: int = 2048 * 2048
    """Of one picture that an image model makes."""
    replica_count_max: int = 64
    """Of one deployment."""
    kv_cache_concurrency: int = 8
    """Requests of full context length whose KV a replica's memory is sized for."""
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"
    """fp8: keys and values are kept in 8-bit floats, in half the memory and less exactly, where GPUs have those; a
    replica on another device refuses."""
    enable_latent_cache: bool = True
    """Whether the KV cache of DeepSeek V2 holds latents, a ninth or less of its keys and values; with addons never."""
    enable_prefix_cache: bool = True
    """Whether prompts that begin alike share what was computed of them; never across accounts."""
    enable_patches: bool = True
    """Whether language models compute by layers of ours, as exact and of fewer operations; else by transformers'."""
    enable_kernels: bool = True
    """Whether GPUs compute addons, experts and what is between matrix products by Triton kernels, and CPUs what is
    between them in C; else by torch's."""
    enable_graphs: bool = True
    """Whether GPUs replay small steps of language models as CUDA graphs; else each kernel is launched by itself."""
    enable_look_ahead: bool = True
    """Whether GPUs are given a step before the tokens of the one before are known to the host."""
    load_stall_timeout_s: float = 120.0
    """A load that reports no progress for this long is ended."""
    min_residency_s: float = 60.0
    """A replica that became ready is not put to sleep or stopped for others before this time is over."""
    max_wait_s: float = 120.0
    """A deployment that waits for room gets it by then: busy replicas of others take nothing new and finish."""
    min_scale_to_zero_window_s: float = 300.0
    """Shortest `scaleToZeroWindow` that a deployment may ask for."""
    autoscale_interval_s: float = 1.0
    """How often load is looked at."""
    scaling_decisions_kept: int = 100
    """Of each deployment."""
    usage_flush_s: float = 5.0
    """How often the times of last use are written."""
    num_spare_workers: int = 1
    """Workers that have imported their libraries ahead of need, per device on GPUs, else in all."""
    host_cache_bytes: int | None = None
    """Host memory for weights of models that sleep or have stopped; default: a quarter of the host's."""
    addons_max: int = 8
    """LoRA addons on one deployment that allows them; room for as many is reserved with each of its replicas."""
    addon_rank_max: int = 64
    """Highest rank of a LoRA addon."""
    retries_max: int = 1
    """Of a request whose worker ended before anything of the answer was sent."""
    poison_crashes: int = 2
    """A request in flight at so many crashes is refused afterwards."""
    lease_keepalive_s: float = 15.0
    """A lease whose holder is not heard of for this long is taken back."""
    lease_max_s: float = 24 * 3600.0
    """Longest time that a lease may be asked for."""
    heartbeat_timeout_s: float = 10.0
    """A worker silent, or stuck in one step, for this long is ended and replaced."""
    backoff_first_s: float = 0.5
    """Pause before a replica that crashed starts again; doubled with each further crash."""
    backoff_max_s: float = 60.0
    """Longest such pause."""
    crashes_max: int = 5
    """Within crash_window_s: the replica gives up until the deployment changes."""
    crash_window_s: float = 600.0
    """How long a crash counts."""
    settled_s: float = 60.0
    """The end of a worker that has served for this long and is idle counts as no crash."""
    replica_drain_s: float = 30.0
    """A replica that is taken away lets its requests finish for this long."""
    stop_timeout_s: float = 5.0
    """For a worker to exit after Shutdown before it is killed."""
    worker_command: list[str] = msgspec.field(default_factory=lambda: [sys.executable, "-m", "runtime"])
    """How a worker is started, by default with the daemon's own Python."""
    supervisor_interval_s: float = 1.0
    """The supervisor looks at least this often, and at once when something changes."""

    def batch_tokens(self, *, is_cuda: bool) -> int:
        """Of a language model's step."""
        return self.max_batch_tokens if is_cuda else self.max_batch_tokens_on_cpu


class UsageSettings(Section, frozen=True, kw_only=True):
    """What is metered, for quotas and for bills."""

    metering_interval_s: float = 1.0
    """What was used is written so often; a crash loses no more than this, and nothing of what a budget limits."""
    usage_kept_days: int = 400
    """Older rows are removed."""


class TokenPrice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of a million tokens, and of what takes their place where a model listens or draws."""

    prompt: float = 0.0
    cached_prompt: float | None = None
    """Default: as any other prompt token."""
    completion: float = 0.0
    audio_minute: float = 0.0
    """Of sound that was listened to."""
    image: float = 0.0
    """Of one picture that was made."""

    @property
    def of_cached_prompt(self) -> float:
        return self.prompt if self.cached_prompt is None else self.cached_prompt


class PriceSettings(Section, frozen=True, kw_only=True):
    """What usage costs, for charging it back. Without prices nothing is said of costs."""

    currency: str = "USD"
    """What prices are given in; only shown."""
    token_prices: dict[str, TokenPrice] = {}
    """By full model name, or `default`: { prompt = 0.2, cached_prompt = 0.1, completion = 0.6 } of a million tokens,
    { audio_minute = 0.006 } of sound, { image = 0.04 } of a picture; on deployments that the account does not have to
    itself."""
    accelerator_hour_prices: dict[str, float] = {}
    """By accelerator type, or `default`: of an hour of one device, held by an account's own deployment."""


class LogSettings(Section, frozen=True, kw_only=True):
    """What is written to stderr, where systemd's journal reads it."""

    log_level: LogLevel = LogLevel.INFO
    """debug, info, warning or error."""
    log_format: LogFormat = LogFormat.TEXT
    """text or json."""


class Config(Section, frozen=True, kw_only=True):
    """All of them, in their tables."""

    data_dir: Path
    """State, models, datasets, keys. Default: what systemd hands over, else ~/.local/share/hearth."""
    master_key_file: Path | None = None
    """Of 32 bytes; default: the credential `master.key` that systemd hands over, else `master-key` in the data
    directory, made at the first start. All that is sealed or signed hangs on it: keep a copy elsewhere."""
    backup_recipients: list[str] = []
    """Public keys of age (age1…) that `hearth backup` encrypts to unless it is told otherwise. Whoever restores holds
    one of the identities that belong to them."""
    region: str = "LOCAL"
    """What placements and regions of this machine are called."""
    deployment_purge_s: float = 7 * 86400.0
    """A soft-deleted deployment can be undeleted for this long."""
    server: ServerSettings = ServerSettings()
    identity: IdentitySettings = IdentitySettings()
    limits: LimitSettings = LimitSettings()
    images: ImageSettings = ImageSettings()
    speech: SpeechSettings = SpeechSettings()
    imports: ImportSettings = ImportSettings()
    datasets: DatasetSettings = DatasetSettings()
    fleet: FleetSettings = FleetSettings()
    usage: UsageSettings = UsageSettings()
    prices: PriceSettings = PriceSettings()
    log: LogSettings = LogSettings()


SECTIONS: dict[str, type[Section]] = {
    name: hint for name, hint in get_type_hints(Config).items() if isinstance(hint, type) and issubclass(hint, Section)
}


class ClientEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """What the CLI and SDK take from the environment."""

    base_url: str | None
    api_key: str | None
    api_key_variable: str = ""
    """Where the key came from."""
    profile: str = "default"
    credentials_file: Path
    """Written by `hearth signin`."""
    data_dir: Path


class ServiceEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """What a service manager tells the daemon: where it wants to be notified, and how often at least."""

    notify_socket: str | None = None
    watchdog_s: float | None = None


def load_config(
    file: Path | None = None, overrides: Mapping[str, object] = {}, environ: Mapping[str, str] = os.environ
) -> Config:
    """Defaults, then the file, then HEARTH_* variables, then command-line overrides (by setting name).

    Raises `invalid` naming the key for an unknown or ill-typed setting.
    """
    raw = {} if file is None else _read(file)
    for name, value in _from_environment(environ).items():
        _put(raw, name, value)
    for name, value in overrides.items():
        if value is not None:
            _put(raw, name, value)
    raw.setdefault("data_dir", str(default_data_dir(environ)))
    if credential := _credential("master.key", environ):
        raw.setdefault("master_key_file", str(credential))
    try:
        return msgspec.convert(raw, Config, strict=False, dec_hook=_decode_path)
    except msgspec.ValidationError as error:
        raise HearthError(Code.INVALID, f"bad setting: {error}") from error


def default_data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    if named := environ.get("HEARTH_DATA_DIR") or environ.get("STATE_DIRECTORY"):
        return Path(named)
    return Path(environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "hearth"


def client_environment(environ: Mapping[str, str] = os.environ) -> ClientEnvironment:
    key_variable = next((name for name in ("HEARTH_API_KEY", "FIREWORKS_API_KEY") if environ.get(name)), "")
    config_home = Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return ClientEnvironment(
        base_url=environ.get("HEARTH_BASE_URL") or None,
        api_key=environ[key_variable] if key_variable else None,
        api_key_variable=key_variable,
        profile=environ.get("HEARTH_PROFILE") or "default",
        credentials_file=config_home / "hearth" / "credentials.ini",
        data_dir=default_data_dir(environ),
    )


def service_environment(environ: Mapping[str, str] = os.environ) -> ServiceEnvironment:
    """Of sd_notify(3) and sd_watchdog_enabled(3); meant for another process when it names another's id."""
    watchdog_us = environ.get("WATCHDOG_USEC", "")
    is_meant = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return ServiceEnvironment(
        notify_socket=environ.get("NOTIFY_SOCKET") or None,
        watchdog_s=int(watchdog_us) / 1e6 if watchdog_us.isdecimal() and int(watchdog_us) and is_meant else None,
    )


def where_from(file: Path | None = None, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """By setting: the file, the variable or the service manager that `load_config` takes it from, if not the default.

    Raises `invalid` for a file that cannot be read.
    """
    origins: dict[str, str] = {}
    for name, value in ({} if file is None else _read(file)).items():
        origins |= dict.fromkeys(value if isinstance(value, dict) else [name], str(file))
    origins |= {name: f"HEARTH_{name.upper()}" for name in _from_environment(environ)}
    if "data_dir" not in origins and "STATE_DIRECTORY" in environ:
        origins["data_dir"] = "STATE_DIRECTORY"
    if "master_key_file" not in origins and _credential("master.key", environ) is not None:
        origins["master_key_file"] = "CREDENTIALS_DIRECTORY"
    return origins


def inherited_environment(changes: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """For a program that a person runs through the CLI: all of his own, and `changes`."""
    return {**environ, **changes}


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise HearthError(Code.INVALID, f"cannot read the configuration {file}: {error}") from error


def _credential(name: str, environ: Mapping[str, str]) -> Path | None:
    """A file that systemd hands to the service alone (LoadCredential=)."""
    directory = environ.get("CREDENTIALS_DIRECTORY")
    path = Path(directory) / name if directory else None
    return path if path is not None and path.exists() else None


def _section_of(name: str) -> str | None:
    """The table a setting stands in; None for a top-level one. Raises `invalid` for a name that is no setting."""
    if name in Config.__struct_fields__ and name not in SECTIONS:
        return None
    for section, struct in SECTIONS.items():
        if name in struct.__struct_fields__:
            return section
    raise HearthError(Code.INVALID, f"there is no setting {name!r}", name)


def _put(raw: dict[str, Any], name: str, value: object) -> None:
    section = _section_of(name)
    (raw if section is None else raw.setdefault(section, {}))[name] = value


_CLIENT_VARIABLES = {"HEARTH_BASE_URL", "HEARTH_API_KEY", "HEARTH_PROFILE"}
_TABLES: list[type[Section]] = [Config, *SECTIONS.values()]
_LIST_SETTINGS = {
    field.name for struct in _TABLES for field in msgspec.structs.fields(struct) if field.type == list[str]
}
"""Given as words in the environment."""


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    settings: dict[str, object] = {}
    for variable, text in environ.items():
        if variable.startswith("HEARTH_") and variable not in _CLIENT_VARIABLES:
            name = variable.removeprefix("HEARTH_").lower()
            settings[name] = text.split() if name in _LIST_SETTINGS else text
    return settings


def _decode_path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    raise NotImplementedError(f"no setting has type {kind}")
