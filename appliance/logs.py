"""Log set-up: one line per event on stderr, text or JSON, with API keys blanked out. Prompts are never logged."""

import logging
import re
import sys

import msgspec

from appliance.config import LogSettings

_KEY = re.compile(r"fw_[A-Za-z0-9_]{6,}")

OURS = ("appliance", "models")
LIBRARIES_LEVEL_MIN = logging.INFO
"""Their debug lines hold what they are given: every value of every row, every byte of a request."""


class _Redacting(logging.Formatter):
    """Blanks anything that looks like a key, also inside tracebacks of libraries."""

    def format(self, record: logging.LogRecord) -> str:
        return _KEY.sub("fw_…", super().format(record))


class _Json(_Redacting):
    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        event = {"time": record.created, "level": record.levelname, "logger": record.name, "message": line}
        return msgspec.json.encode(event).decode()


def configure_logging(settings: LogSettings) -> None:
    """Replace all root handlers; called by the daemon, at its start and when its configuration is read again."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.log_format == "json":
        handler.setFormatter(_Json("%(message)s"))
    else:
        handler.setFormatter(_Redacting("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    logging.basicConfig(level=max(level, LIBRARIES_LEVEL_MIN), handlers=[handler], force=True)
    for name in OURS:
        logging.getLogger(name).setLevel(level)
    logging.getLogger("aiohttp.access").disabled = True  # would hold client text; metrics count requests
