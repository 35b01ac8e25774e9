"""What systemd is told: ready, reloading, stopping, alive. As sd_notify(3) has it, a datagram of NAME=value lines.

Without a service manager every call does nothing, and a service manager that cannot be reached never stops the daemon.
"""

import logging
import socket
import time

from appliance.config import ServiceEnvironment

logger = logging.getLogger(__name__)


class ServiceManager:
    def __init__(self, environment: ServiceEnvironment) -> None:
        self.watchdog_s = environment.watchdog_s
        """It ends and restarts a daemon that it has not heard `alive` of for so long; None: it never does."""
        self._address = _address(environment.notify_socket)

    def ready(self, status: str) -> None:
        """At the end of the start, and of a reload."""
        self._notify(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Followed by `ready`. The time lets systemd tell this reload from an earlier one."""
        self._notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        self._notify(f"STOPPING=1\nSTATUS={status}")

    def show(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._notify(f"STATUS={status}")

    def alive(self) -> None:
        self._notify("WATCHDOG=1")

    def _notify(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                sender.sendto(message.encode(), self._address)
        except OSError as error:
            logger.warning("cannot notify the service manager: %s", error)


def _address(notify_socket: str | None) -> str | None:
    """A leading @ stands for the zero byte of a name that is in no directory."""
    if notify_socket is None or not notify_socket.startswith("@"):
        return notify_socket
    return "\0" + notify_socket[1:]
