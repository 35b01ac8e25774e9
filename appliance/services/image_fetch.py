"""An image that a client only names is fetched, from where the operator allows and from nowhere else.

A stranger chooses the URL, so every rule is about where the connection goes: the origin must be listed, its name is
resolved once, every address must be a public one, that very address is connected to, and each redirect starts over.
Nothing of the answer but the image's bytes reaches the client, and no reason why a connection failed.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from appliance.config import ImageSettings
from appliance.errors import Code, HearthError

REDIRECTS_MAX = 3

_HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity"}
_TRANSLATED = IPv6Network("64:ff9b::/96")
"""IPv6 addresses whose last 32 bits are an IPv4 address that a gateway connects to."""

Resolve = Callable[[str], Awaitable[Sequence[str]]]


async def resolve_by_system(host: str) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


async def fetch_image(url: str, settings: ImageSettings, param: str, resolve: Resolve = resolve_by_system) -> bytes:
    """Raises `invalid` or `too_large` naming `param`."""
    if not settings.image_origins:
        message = "images are not fetched here (setting image_origins); send the image as a data: URI"
        raise HearthError(Code.INVALID, f"{param}: {message}", param)
    connector = aiohttp.TCPConnector(resolver=_PublicResolver(resolve), use_dns_cache=False, force_close=True)
    try:
        async with (
            asyncio.timeout(settings.image_fetch_timeout_s),
            aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, headers=_HEADERS
            ) as session,
        ):
            return await _follow(session, url, settings, param)
    except (aiohttp.ClientError, OSError, TimeoutError, UnicodeError, ValueError) as error:
        raise HearthError(Code.INVALID, f"{param}: the image could not be fetched", param) from error


async def _follow(session: aiohttp.ClientSession, url: str, settings: ImageSettings, param: str) -> bytes:
    target = _checked(URL(url), settings, param)
    for _ in range(REDIRECTS_MAX + 1):
        async with session.get(target, allow_redirects=False) as response:
            if response.status in {301, 302, 303, 307, 308} and (location := response.headers.get("Location")):
                target = _checked(target.join(URL(location)), settings, param)
                continue
            if response.status != 200:
                message = f"{param}: the image's server answered {response.status}"
                raise HearthError(Code.INVALID, message, param)
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise HearthError(Code.INVALID, f"{param}: the image came compressed, which was not asked for", param)
            return await _read(response, settings.image_bytes_max, param)
    raise HearthError(Code.INVALID, f"{param}: more than {REDIRECTS_MAX} redirects", param)


async def _read(response: aiohttp.ClientResponse, bytes_max: int, param: str) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > bytes_max:
            raise HearthError(Code.TOO_LARGE, f"{param}: the image is larger than {bytes_max} bytes", param)
    return bytes(data)


def _checked(url: URL, settings: ImageSettings, param: str) -> URL:
    """The URL, as the same parser reads it that connects later; raises `invalid` unless its origin is listed."""
    allowed = {URL(origin).origin() for origin in settings.image_origins}
    if url.scheme not in {"http", "https"} or url.host is None or url.user is not None or url.password is not None:
        raise HearthError(Code.INVALID, f"{param}: not a URL that an image can be fetched from", param)
    if url.origin() not in allowed:
        message = f"{param}: images are not fetched from {url.host[:100]!r} (setting image_origins)"
        raise HearthError(Code.INVALID, message, param)
    return url


class _PublicResolver(AbstractResolver):
    """Names lead to public addresses or nowhere. Addresses in URLs never come here: the operator has listed them."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = [ip_address(address.partition("%")[0]) for address in await self._resolve(host)]
        if not addresses or not all(map(is_public, addresses)):
            raise OSError("the name does not lead to public addresses")
        return [_result(host, address, port) for address in addresses]

    async def close(self) -> None:
        """Nothing is kept."""


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether it is anybody's on the internet, also behind what embeds one address in another."""
    if isinstance(address, IPv6Address):
        embedded = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if embedded is None and address in _TRANSLATED:
            embedded = IPv4Address(int(address) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(embedded)
    return address.is_global and not address.is_multicast


def _result(host: str, address: IPv4Address | IPv6Address, port: int) -> ResolveResult:
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    return ResolveResult(
        hostname=host, host=str(address), port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST
    )
