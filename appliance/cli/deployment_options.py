"""The options of a deployment, said once for create and for update, and the API's fields that they become.

An option that is not given is not sent: the server chooses, or leaves the field as it is. An empty text takes a field
back to its default.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from appliance.errors import Code, HearthError

Text = str | None
Number = int | None
Switch = bool | None

OPTIONS: dict[str, object] = {
    "display_name": Annotated[Text, typer.Option(metavar="NAME", help="Fewer than 64 characters.")],
    "description": Annotated[Text, typer.Option(metavar="TEXT", help="What it is for.")],
    "min_replica_count": Annotated[Number, typer.Option(min=0, metavar="N", help="Default: 0.")],
    "max_replica_count": Annotated[
        Number, typer.Option(min=0, metavar="N", help="Default: the minimum, at least 1; 0 holds it at zero.")
    ],
    "deployment_shape": Annotated[
        Text, typer.Option(metavar="SHAPE", help="fast, throughput, minimal (or cost), default, or a full name.")
    ],
    "accelerator_type": Annotated[
        Text, typer.Option(metavar="TYPE", help="For example NVIDIA_H100_80GB. Default: any.")
    ],
    "accelerator_count": Annotated[
        Number, typer.Option("--accelerator-count", "--world-size", min=1, metavar="N", help="Devices per replica.")
    ],
    "precision": Annotated[Text, typer.Option(metavar="P", help="BF16, FP16, FP32 or FP8. Default: the checkpoint's.")],
    "max_context_length": Annotated[Number, typer.Option(min=1, metavar="N", help="Tokens. Default: the model's.")],
    "kv_cache_fraction": Annotated[
        float | None, typer.Option(min=0, max=1, metavar="SHARE", help="Of its devices' memory, for the KV cache.")
    ],
    "scale_up_window": Annotated[
        Text, typer.Option(metavar="TIME", help="Of more load before it grows. Default: 30s.")
    ],
    "scale_down_window": Annotated[
        Text, typer.Option(metavar="TIME", help="Of less load before it shrinks. Default: 10m.")
    ],
    "scale_to_zero_window": Annotated[
        Text, typer.Option(metavar="TIME", help="Without a request, at a minimum of zero. Default: 1h.")
    ],
    "load_targets": Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="What a replica should carry: default, tokens_generated_per_second, requests_per_second or"
            " concurrent_requests. Repeat, or separate by commas.",
        ),
    ],
    "unused_auto_delete_duration": Annotated[
        Text, typer.Option(metavar="TIME", help="Deleted when unused so long; 0 never. Default: 168h.")
    ],
    "expire_time": Annotated[
        Text, typer.Option(metavar="WHEN", help="Deleted then: YYYY-MM-DD[ HH:MM:SS] in UTC, or RFC 3339.")
    ],
    "enable_addons": Annotated[
        Switch, typer.Option("--enable-addons/--no-enable-addons", help="Let LoRA addons be deployed on it.")
    ],
    "enable_session_affinity": Annotated[
        Switch,
        typer.Option(
            "--enable-session-affinity/--no-enable-session-affinity", help="Keep a user on one replica. Default: yes."
        ),
    ],
    "pinned": Annotated[Switch, typer.Option("--pinned/--no-pinned", help="Never make room for others.")],
    "never_evicts": Annotated[
        Switch, typer.Option("--never-evicts/--no-never-evicts", help="Never let others make room for it.")
    ],
    "draft_model": Annotated[
        Text, typer.Option(metavar="MODEL", help="A small model with the same vocabulary that guesses ahead.")
    ],
    "draft_token_count": Annotated[Number, typer.Option(min=1, metavar="N", help="Tokens guessed ahead at a time.")],
    "ngram_speculation_length": Annotated[
        Number, typer.Option(min=2, metavar="N", help="Guess what followed N tokens before.")
    ],
    "region": Annotated[Text, typer.Option(metavar="REGION", help="This box's, or GLOBAL.")],
    "file": Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="JSON of the deployment as the API spells it, scaling schedules among it; options win over it.",
        ),
    ],
}
POLICY = "autoscalingPolicy"
WINDOWS = {
    "scale_up_window": "scaleUpWindow",
    "scale_down_window": "scaleDownWindow",
    "scale_to_zero_window": "scaleToZeroWindow",
}


def with_deployment_options(run: Callable[..., None]) -> Callable[..., None]:
    """In the place of the command's `**options`."""
    return with_options(run, OPTIONS)


def with_options(run: Callable[..., None], options: Mapping[str, object]) -> Callable[..., None]:
    """By name and annotation; none is required."""
    signature = inspect.signature(run)
    own = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in options.items()
    ]
    run.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    return run


def read_fields(options: Mapping[str, Any]) -> dict[str, object]:
    """The fields of a deployment that the options say something about."""
    given = {name: value for name, value in options.items() if value is not None and value != []}
    fields = _read_file(given.pop("file")) if "file" in given else {}
    policy = {wire: given.pop(name) for name, wire in WINDOWS.items() if name in given}
    if "load_targets" in given:
        policy["loadTargets"] = read_load_targets(given.pop("load_targets"))
    if policy:
        fields[POLICY] = {**_policy_of(fields), **policy}
    if "region" in given:
        fields["placement"] = {"region": given.pop("region")}
    if "expire_time" in given:
        fields["expireTime"] = read_time(given.pop("expire_time"))
    return fields | given


def read_load_targets(texts: Sequence[str]) -> dict[str, float]:
    targets = {}
    for text in ",".join(texts).split(","):
        name, _, value = text.partition("=")
        try:
            targets[name.strip()] = float(value)
        except ValueError as error:
            raise typer.BadParameter(f"--load-targets: {text!r} is not of the form NAME=VALUE") from error
    return targets


def read_time(text: str, option: str = "--expire-time") -> str | None:
    """RFC 3339; None, which takes the field away, for an empty text."""
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {text!r} is not of the form YYYY-MM-DD[ HH:MM:SS]") from error
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).isoformat()


def _read_file(file: Path) -> dict[str, object]:
    """What is said elsewhere on the command line is left out."""
    try:
        fields = msgspec.json.decode(file.read_bytes(), type=dict[str, object])
    except msgspec.DecodeError as error:
        raise HearthError(Code.INVALID, f"{file} is not a JSON object: {error}") from error
    return {name: value for name, value in fields.items() if name not in ("name", "baseModel")}


def _policy_of(fields: Mapping[str, object]) -> dict[str, object]:
    policy = fields.get(POLICY)
    return policy if isinstance(policy, dict) else {}
