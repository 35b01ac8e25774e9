"""The models that come with Hearth, as folders in this package.

`python -m scripts.ember_chat` and `python -m scripts.ember_whisper` rebuild them.
"""

from pathlib import Path
from typing import NamedTuple


class BuiltinModel(NamedTuple):
    id: str
    directory: Path
    display_name: str


EMBER_CHAT = BuiltinModel("ember-chat", Path(__file__).parent / "ember_chat", "Ember Chat")
EMBER_WHISPER = BuiltinModel("ember-whisper", Path(__file__).parent / "ember_whisper", "Ember Whisper")
BUILTIN_MODELS = (EMBER_CHAT, EMBER_WHISPER)
