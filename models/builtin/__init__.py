"""The model that comes with Hearth, as a folder in this package. `python -m scripts.ember_chat` rebuilds it."""

from pathlib import Path

EMBER_CHAT_ID = "ember-chat"
EMBER_CHAT_DIRECTORY = Path(__file__).parent / "ember_chat"
