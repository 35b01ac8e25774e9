"""A file that a client only names is fetched, from where the operator allows and from nowhere else.

A stranger chooses the URL, so every rule is about where the connection goes: the origin must be listed, its name is
resolved once, every address must be a public one, that very address is connected to, and each redirect starts over.
Nothing of the answer but the file's bytes reaches the client, and no reason why a connection failed.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from appliance.errors import Code, HearthError

REDIRECTS_MAX = 3
READ_BYTES = 256 * 1024

_TRANSLATED = IPv6Network("64:ff9b::/96")
"""IPv6 addresses whose last 32 bits are an IPv4 address that a gateway connects to."""

Resolve = Callable[[str], Awaitable[Sequence[str]]]
Take = Callable[[bytes], Awaitable[None]]
"""Is given the file in pieces; raises when they are too many."""


class Rules(NamedTuple):
    """Of one kind of files."""

    noun: str
    """With its article, e.g. "an image"; what refusals call one, likewise `plural`."""
    plural: str
    media_types: str
    origins: Sequence[str]
    setting: str
    """Where the operator lists them."""
    remedy: str
    """What a client can do where none is listed."""
    timeout_s: float

    @property
    def the_noun(self) -> str:
        return f"the {self.noun.partition(' ')[2]}"


async def resolve_by_system(host: str) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


async def fetch(url: str, rules: Rules, param: str, take: Take, resolve: Resolve = resolve_by_system) -> None:
    """Raises `invalid` naming `param`, or what `take` raises."""
    if not rules.origins:
        message = f"{rules.plural} are not fetched here (setting {rules.setting}); {rules.remedy}"
        raise HearthError(Code.INVALID, f"{param}: {message}", param)
    connector = aiohttp.TCPConnector(resolver=_PublicResolver(resolve), use_dns_cache=False, force_close=True)
    headers = {"Accept": rules.media_types, "Accept-Encoding": "identity"}
    try:
        async with (
            asyncio.timeout(rules.timeout_s),
            aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, headers=headers
            ) as session,
        ):
            await _follow(session, url, rules, param, take)
    except (aiohttp.ClientError, OSError, TimeoutError, UnicodeError, ValueError) as error:
        raise HearthError(Code.INVALID, f"{param}: {rules.the_noun} could not be fetched", param) from error


async def _follow(session: aiohttp.ClientSession, url: str, rules: Rules, param: str, take: Take) -> None:
    target = _checked(URL(url), rules, param)
    for _ in range(REDIRECTS_MAX + 1):
        async with session.get(target, allow_redirects=False) as response:
            if response.status in {301, 302, 303, 307, 308} and (location := response.headers.get("Location")):
                target = _checked(target.join(URL(location)), rules, param)
                continue
            if response.status != 200:
                message = f"{param}: {rules.the_noun}'s server answered {response.status}"
                raise HearthError(Code.INVALID, message, param)
            if response.headers.get("Content-Encoding", "identity") != "identity":
                message = f"{param}: {rules.the_noun} came compressed, which was not asked for"
                raise HearthError(Code.INVALID, message, param)
            async for chunk in response.content.iter_chunked(READ_BYTES):
                await take(chunk)
            return
    raise HearthError(Code.INVALID, f"{param}: more than {REDIRECTS_MAX} redirects", param)


def _checked(url: URL, rules: Rules, param: str) -> URL:
    """The URL, as the same parser reads it that connects later; raises `invalid` unless its origin is listed."""
    allowed = {URL(origin).origin() for origin in rules.origins}
    if url.scheme not in {"http", "https"} or url.host is None or url.user is not None or url.password is not None:
        raise HearthError(Code.INVALID, f"{param}: not a URL that {rules.noun} can be fetched from", param)
    if url.origin() not in allowed:
        message = f"{param}: {rules.plural} are not fetched from {url.host[:100]!r} (setting {rules.setting})"
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
