"""`python -m runtime.llm.parallel …`: a process that follows a worker starts here, and ends with it."""

import argparse
import faulthandler
import logging
import os
import socket
import sys

from setproctitle import setproctitle

from runtime.__main__ import die_with_parent
from runtime.llm.parallel.cut import Share
from runtime.llm.parallel.follower import Follower
from runtime.llm.parallel.messages import Channel, Gone

logger = logging.getLogger(__name__)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m runtime.llm.parallel")
    parser.add_argument("--rank", required=True, type=int)
    parser.add_argument("--size", required=True, type=int)
    parser.add_argument("--channel", required=True, type=int, help="descriptor of a unix socket")
    parser.add_argument("--parent-pid", required=True, type=int, help="the worker")
    options = parser.parse_args()
    die_with_parent(options.parent_pid)
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    setproctitle(f"python -m runtime.llm.parallel --rank {options.rank} of {options.size}")
    channel = Channel(socket.socket(fileno=options.channel))
    # Ends without ceremony: libraries that take leave of their peers would wait for those that are gone, too.
    try:
        Follower(channel, Share(options.rank, options.size)).run()
    except Gone:
        os._exit(0)
    except Exception:
        logger.exception("rank %d failed", options.rank)
        os._exit(1)


if __name__ == "__main__":
    main()
