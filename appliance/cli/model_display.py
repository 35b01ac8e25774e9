"""How models look in the terminal."""

from collections.abc import Sequence

from appliance.cli.commands import Session
from appliance.cli.output import print_json, print_record, print_table, readable_time
from appliance.cli.units import readable_bytes
from appliance.sdk.models import Model
from appliance.sdk.resources import DeployedModelRef

LINE_LENGTH_MAX = 60


def show_model(session: Session, model: Model) -> None:
    if session.is_json:
        return print_json(model)
    details, addon, config = model.base_model_details, model.peft_details, model.conversation_config
    return print_record(
        [
            ("Name", model.name),
            ("Display name", model.display_name),
            ("Description", model.description),
            ("State", model.state),
            ("Status", model.status.message),
            ("Kind", model.kind),
            ("Type", details.model_type if details else ""),
            ("Parameters", f"{int(details.parameter_count):,}" if details else ""),
            ("Size", _size(model)),
            ("Precision", precision_of(model)),
            ("Precisions", ", ".join(model.precisions)),
            ("Context length", str(model.context_length or "")),
            ("Base model", addon.base_model if addon else ""),
            ("Rank", str(addon.r or "") if addon else ""),
            ("Layers", ", ".join(addon.target_modules) if addon else ""),
            ("Draft model", model.default_draft_model),
            ("Draft tokens", str(model.default_draft_token_count or "")),
            ("Tools", "yes" if model.supports_tools else ""),
            ("Images", "yes" if model.supports_image_input else ""),
            ("Chat template", _first_line(config.template) if config else ""),
            ("System prompt", _first_line(config.system) if config else ""),
            ("Serverless", "yes" if model.supports_serverless else ""),
            ("Public", "yes" if model.public else "no"),
            ("GitHub", model.github_url),
            ("Hugging Face", model.hugging_face_url),
            ("Imported from", model.imported_from),
            ("Created", readable_time(model.create_time)),
            ("Updated", readable_time(model.update_time)),
            *(("Deployed", _place(ref)) for ref in model.deployed_model_refs),
        ]
    )


def show_models(session: Session, models: Sequence[Model]) -> None:
    if session.is_json:
        return print_json(models)
    rows = [
        [
            short_name(model.name),
            model.state,
            str(model.context_length or ""),
            precision_of(model),
            readable_time(model.create_time),
        ]
        for model in models
    ]
    return print_table(["ID", "STATE", "CONTEXT", "PRECISION", "CREATED"], rows)


def short_name(name: str) -> str:
    return name.rpartition("/")[2]


def precision_of(model: Model) -> str:
    return model.base_model_details.default_precision if model.base_model_details else ""


def _size(model: Model) -> str:
    return readable_bytes(int(model.size_bytes)) if model.size_bytes != "0" else ""


def _first_line(text: str) -> str:
    line = text.partition("\n")[0]
    return line if line == text and len(line) <= LINE_LENGTH_MAX else f"{line[:LINE_LENGTH_MAX]} …"


def _place(ref: DeployedModelRef) -> str:
    marks = [ref.state, *(["default"] if ref.default else []), *(["public"] if ref.public else [])]
    return f"{ref.name} on {ref.deployment} ({', '.join(marks)})"
