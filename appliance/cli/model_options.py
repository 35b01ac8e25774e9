"""The options of a model, said once for create, update and import, and the API's fields that they become.

An option that is not given is not sent. An empty text, and a 0, take a field back to its default.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from appliance.cli.deployment_options import with_options

Text = str | None
Number = int | None
Switch = bool | None

OPTIONS: dict[str, object] = {
    "display_name": Annotated[Text, typer.Option(metavar="NAME", help="Fewer than 64 characters.")],
    "description": Annotated[Text, typer.Option(metavar="TEXT", help="What it is, fewer than 1000 characters.")],
    "public": Annotated[
        Switch, typer.Option("--public/--no-public", help="Let every account of this box use it. Default: no.")
    ],
    "context_length": Annotated[
        Number, typer.Option(min=0, metavar="N", help="Most tokens it may serve. Default: as far as it reaches.")
    ],
    "default_draft_model": Annotated[
        Text, typer.Option(metavar="MODEL", help="Guesses ahead on deployments that name no draft model.")
    ],
    "default_draft_token_count": Annotated[Number, typer.Option(min=0, metavar="N", help="Tokens at a time.")],
    "github_url": Annotated[Text, typer.Option(metavar="URL", help="Where its code is.")],
    "hugging_face_url": Annotated[Text, typer.Option(metavar="URL", help="Where its page is.")],
    "supports_image_input": Annotated[
        Switch, typer.Option("--supports-image-input/--no-supports-image-input", help="The daemon finds out by itself.")
    ],
    "supports_tools": Annotated[
        Switch, typer.Option("--supports-tools/--no-supports-tools", help="The daemon finds out by itself.")
    ],
    "chat_template": Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, metavar="FILE", help="Jinja, in the place of the model's own."),
    ],
    "system_prompt": Annotated[
        Text, typer.Option(metavar="TEXT", help="What a conversation begins with that has none of its own.")
    ],
}


def with_model_options(run: Callable[..., None]) -> Callable[..., None]:
    """In the place of the command's `**options`."""
    return with_options(run, OPTIONS)


def read_model_fields(options: Mapping[str, Any]) -> dict[str, object]:
    """The fields of a model that the options say something about."""
    given = {name: value for name, value in options.items() if value is not None}
    template, system = given.pop("chat_template", None), given.pop("system_prompt", None)
    if template is not None or system is not None:
        text = template.read_text() if template is not None else ""
        given["conversation_config"] = {"style": "jinja", "template": text, "system": system or ""}
    return given
