"""What a base URL says about where it leads. No HTTP library: `hearth --help` and completion ask this too."""

from ipaddress import ip_address
from urllib.parse import urlsplit


def is_loopback(base_url: str) -> bool:
    """Whether a URL leads to this machine."""
    try:
        host = urlsplit(base_url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
