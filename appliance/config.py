"""Every setting, once: default, unit, meaning. One TOML file, then HEARTH_* environment; nothing else reads either.

Tables group the settings; names are unique across tables, so `HEARTH_` + the upper-case name is the variable.
"""

import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import urlsplit

import msgspec

from appliance.errors import Code, HearthError

MIB = 1024 * 1024
GIB = 1024 * MIB


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class ServerSettings(Section, frozen=True, kw_only=True):
    host: str = "127.0.0.1"
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
    write_stall_timeout_s: float = 30.0
    """A client that takes nothing for this long loses its stream."""
    forecast_interval_s: float = 1.0
    """A streaming caller who waits for a replica reads so often how far it is; from the first time on its status is 200
    and a refusal comes as an event."""
    max_connections: int = 2048
    max_connections_per_address: int = 1024
    max_body_bytes: int = 32 * MIB
    max_file_bytes: int = 1024 * GIB
    drain_s: float = 30.0
    """SIGTERM waits this long for running requests."""


class IdentitySettings(Section, frozen=True, kw_only=True):
    account_id: str = "hearth"
    library_account_id: str = "fireworks"
    """Owns the built-in and other shared models."""
    failed_auth_per_minute: int = 60
    """Per client address; beyond it answers 429."""


class LimitSettings(Section, frozen=True, kw_only=True):
    n_max: int = 128
    prompts_max: int = 128
    """Prompts in one completions request."""
    choices_max: int = 512
    """Prompts times n of one request."""
    stop_max: int = 4
    stop_length_max: int = 256
    stop_token_ids_max: int = 64
    logit_bias_max: int = 1024
    """Tokens that one request may bias."""
    logprobs_max: int = 5
    messages_max: int = 4096
    tools_max: int = 128
    """Functions that one request may offer."""
    default_max_tokens: int = 2000
    requests_in_flight_max: int = 4096
    """Over all deployments; beyond it answers 503."""
    request_deadline_s: float = 600.0
    """A request, from when a replica takes it, that is not finished by then is ended."""


class ImageSettings(Section, frozen=True, kw_only=True):
    images_max: int = 30
    """Images in one request."""
    image_bytes_max: int = 5 * MIB
    """Of one image, as a file."""
    image_request_bytes_max: int = 10 * MIB
    """Of all images of a request together, as they came: in base64, or fetched."""
    image_origins: list[str] = []
    """Where images may be fetched from, e.g. https://images.example.com; none by default, so that clients send them
    as data: URIs. A name must lead to public addresses; an address written here may be a private one."""
    image_fetch_timeout_s: float = 5.0
    """For one image, redirects included."""

    def __post_init__(self) -> None:
        for origin in self.image_origins:
            parts = urlsplit(origin)
            if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/") or parts.query:
                raise ValueError(f"image_origins: {origin!r} is not of the form https://host")


class FleetSettings(Section, frozen=True, kw_only=True):
    simulated_gpus: str = ""
    """COUNTxTYPE, e.g. 4xNVIDIA_H100_80GB: pretend devices whose workers run on CPU."""
    cpu_memory_fraction: float = 0.8
    """Share of the host's memory that the CPU device offers."""
    cold_start_wait_s: float = 30.0
    """How long a request waits for a deployment with no ready replica."""
    max_batch_tokens: int = 2048
    max_num_requests: int = 256
    block_size: int = 32
    replica_count_max: int = 64
    """Of one deployment."""
    kv_cache_concurrency: int = 8
    """Requests of full context length whose KV a replica's memory is sized for."""
    enable_prefix_cache: bool = True
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
    retries_max: int = 1
    """Of a request whose worker ended before anything of the answer was sent."""
    poison_crashes: int = 2
    """A request in flight at so many crashes is refused afterwards."""
    lease_keepalive_s: float = 15.0
    """A lease whose holder is not heard of for this long is taken back."""
    lease_max_s: float = 24 * 3600.0
    heartbeat_timeout_s: float = 10.0
    """A worker silent, or stuck in one step, for this long is ended and replaced."""
    backoff_first_s: float = 0.5
    backoff_max_s: float = 60.0
    crashes_max: int = 5
    """Within crash_window_s: the replica gives up until the deployment changes."""
    crash_window_s: float = 600.0
    settled_s: float = 60.0
    """The end of a worker that has served for this long and is idle counts as no crash."""
    replica_drain_s: float = 30.0
    """A replica that is taken away lets its requests finish for this long."""
    stop_timeout_s: float = 5.0
    """For a worker to exit after Shutdown before it is killed."""
    worker_command: list[str] = msgspec.field(default_factory=lambda: [sys.executable, "-m", "runtime"])
    supervisor_interval_s: float = 1.0
    """The supervisor looks at least this often, and at once when something changes."""


class LogSettings(Section, frozen=True, kw_only=True):
    log_level: str = "info"
    log_format: str = "text"
    """text or json."""


class Config(Section, frozen=True, kw_only=True):
    data_dir: Path
    region: str = "LOCAL"
    deployment_purge_s: float = 7 * 86400.0
    """A soft-deleted deployment can be undeleted for this long."""
    server: ServerSettings = ServerSettings()
    identity: IdentitySettings = IdentitySettings()
    limits: LimitSettings = LimitSettings()
    images: ImageSettings = ImageSettings()
    fleet: FleetSettings = FleetSettings()
    log: LogSettings = LogSettings()


SECTIONS: dict[str, type[Section]] = {
    name: hint for name, hint in get_type_hints(Config).items() if isinstance(hint, type) and issubclass(hint, Section)
}


class ClientEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """What the CLI and SDK take from the environment."""

    base_url: str
    api_key: str | None
    data_dir: Path


def load_config(
    file: Path | None = None, overrides: Mapping[str, object] = {}, environ: Mapping[str, str] = os.environ
) -> Config:
    """Defaults, then the file, then HEARTH_* variables, then command-line overrides (by setting name).

    Raises `invalid` naming the key for an unknown or ill-typed setting.
    """
    raw: dict[str, Any] = {}
    if file is not None:
        try:
            raw = tomllib.loads(file.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise HearthError(Code.INVALID, f"cannot read the configuration {file}: {error}") from error
    for name, value in _from_environment(environ).items():
        _put(raw, name, value)
    for name, value in overrides.items():
        if value is not None:
            _put(raw, name, value)
    raw.setdefault("data_dir", str(default_data_dir(environ)))
    try:
        return msgspec.convert(raw, Config, strict=False, dec_hook=_decode_path)
    except msgspec.ValidationError as error:
        raise HearthError(Code.INVALID, f"bad setting: {error}") from error


def default_data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    if named := environ.get("HEARTH_DATA_DIR") or environ.get("STATE_DIRECTORY"):
        return Path(named)
    return Path(environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "hearth"


def client_environment(environ: Mapping[str, str] = os.environ) -> ClientEnvironment:
    return ClientEnvironment(
        base_url=environ.get("HEARTH_BASE_URL") or "http://127.0.0.1:8080",
        api_key=environ.get("HEARTH_API_KEY") or environ.get("FIREWORKS_API_KEY"),
        data_dir=default_data_dir(environ),
    )


def inherited_environment(changes: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """For a program that a person runs through the CLI: all of his own, and `changes`."""
    return {**environ, **changes}


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


_CLIENT_VARIABLES = {"HEARTH_BASE_URL", "HEARTH_API_KEY"}
_LIST_SETTINGS = {"worker_command", "allowed_hosts", "image_origins"}
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
