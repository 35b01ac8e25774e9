"""The model that comes with Hearth, as a folder in this package.

`python -m scripts.ember_chat` rebuilds it.
"""

from pathlib import Path
from typing import NamedTuple


class BuiltinModel(NamedTuple):
    id: str
    directory: Path
    display_name: str


EMBER_CHAT = BuiltinModel("ember-chat", Path(__file__).parent / "ember_chat", "Ember Chat")
BUILTIN_MODELS = (EMBER_CHAT,)
