import logging
from collections.abc import Iterator
from contextlib import contextmanager

from appliance.logs import OURS


@contextmanager
def logging_put_back() -> Iterator[None]:
    """`configure_logging` replaces what the whole process has: afterwards it is as before."""
    root, access = logging.getLogger(), logging.getLogger("aiohttp.access")
    handlers, level, is_disabled = root.handlers[:], root.level, access.disabled
    own_levels = {name: logging.getLogger(name).level for name in OURS}
    yield
    root.handlers[:], access.disabled = handlers, is_disabled
    root.setLevel(level)
    for name, own_level in own_levels.items():
        logging.getLogger(name).setLevel(own_level)
