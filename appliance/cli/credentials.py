"""Where the CLI talks to, as whom: the command line, then the environment, then a profile, then this machine's daemon.

A key never goes to another host than the one it was signed in to, and the local daemon's key never leaves the machine.
What `firectl` keeps in `~/.fireworks/auth.ini` is not read: keys of that service are none of a daemon's business.
"""

import configparser
import os
import stat
from pathlib import Path
from typing import NamedTuple

from appliance.config import ClientEnvironment
from appliance.errors import Code, HearthError
from appliance.sdk.addresses import is_loopback

LOCAL_BASE_URL = "http://127.0.0.1:8080"
OWNER_ONLY = 0o600


class Profile(NamedTuple):
    """What `hearth signin` remembers."""

    base_url: str
    api_key: str
    account_id: str = ""


class Credentials(NamedTuple):
    base_url: str
    api_key: str | None
    api_key_source: str
    """For people."""
    account_id: str | None
    """None: the key's own."""
    profile: str
    """What signing in writes, and what was read if `is_signed_in`."""
    is_signed_in: bool


class Asked(NamedTuple):
    """What the command line says; it comes before all else."""

    base_url: str | None = None
    api_key: str | None = None
    account_id: str | None = None
    profile: str | None = None


def resolve(environment: ClientEnvironment, asked: Asked) -> Credentials:
    """A profile that is named on the command line comes before the environment, the usual one after it."""
    name = asked.profile or environment.profile
    kept = read_profiles(environment.credentials_file).get(name)
    urls = [environment.base_url, kept.base_url if kept else None]
    keys = [(environment.api_key, environment.api_key_variable), (kept.api_key if kept else None, f"profile {name}")]
    if asked.profile:
        urls.reverse()
        keys.reverse()
    base_url = next(url for url in (asked.base_url, *urls, LOCAL_BASE_URL) if url).rstrip("/")
    is_at_home = kept is not None and kept.base_url == base_url
    if not is_at_home:
        keys = [(key, source) for key, source in keys if not source.startswith("profile ")]
    if is_loopback(base_url):
        keys.append((read_local_key(environment), "the local daemon's first key"))
    api_key, source = next(((key, source) for key, source in [(asked.api_key, "--api-key"), *keys] if key), (None, ""))
    account_id = kept.account_id if kept is not None and is_at_home and api_key == kept.api_key else ""
    return Credentials(base_url, api_key, source, asked.account_id or account_id or None, name, kept is not None)


def read_profiles(file: Path) -> dict[str, Profile]:
    """Raises `forbidden` when others could have read, or written, the keys in it."""
    try:
        mode = file.stat().st_mode
        text = file.read_text()
    except OSError:
        return {}
    if stat.S_IMODE(mode) & ~OWNER_ONLY:
        raise HearthError(Code.FORBIDDEN, f"{file} is open to others: chmod 600 {file}")
    parser = _parser()
    try:
        parser.read_string(text)
        return {
            name: Profile(section["base_url"], section["api_key"], section.get("account_id", ""))
            for name, section in parser.items()
            if name != parser.default_section
        }
    except (configparser.Error, KeyError) as error:
        raise HearthError(Code.INVALID, f"{file} cannot be read: {error}; hearth signin writes it anew") from error


def keep_profile(file: Path, name: str, profile: Profile | None) -> None:
    """Write it, or forget it when it is None; the other profiles stay."""
    profiles = {**read_profiles(file)}
    profiles.pop(name, None)
    if profile is not None:
        profiles[name] = profile
    parser = _parser()
    for each, kept in profiles.items():
        parser[each] = {field: value for field, value in kept._asdict().items() if value}
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = file.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY), "w") as stream:
        parser.write(stream)
    draft.replace(file)


def read_local_key(environment: ClientEnvironment) -> str | None:
    """The key that the local daemon wrote at its first start, when this user may read it."""
    try:
        return (environment.data_dir / "admin-api-key").read_text().strip() or None
    except OSError:
        return None


def _parser() -> configparser.ConfigParser:
    # Keys and URLs may hold `%`; the profile `default` is one like all others.
    return configparser.ConfigParser(interpolation=None, default_section="\0")
