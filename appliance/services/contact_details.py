"""What people may call themselves and where they may be written to. Pure."""

import re

from appliance.errors import Code, HearthError

DISPLAY_NAME_LENGTH_MAX = 63
EMAIL_LENGTH_MAX = 254
_DOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+", re.I)
_LOCAL_PART = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}", re.I)


def check_display_name(text: str, param: str = "displayName") -> str:
    if len(text) > DISPLAY_NAME_LENGTH_MAX:
        message = f"{param}: at most {DISPLAY_NAME_LENGTH_MAX} characters, has {len(text)}"
        raise HearthError(Code.INVALID, message, param)
    return text


def check_email(text: str, param: str = "email") -> str:
    """Whether it looks like an address; whether anybody reads there is not known. Empty: none."""
    local_part, _, domain = text.rpartition("@")
    is_address = len(text) <= EMAIL_LENGTH_MAX and _LOCAL_PART.fullmatch(local_part) and _DOMAIN.fullmatch(domain)
    if text and not is_address:
        raise HearthError(Code.INVALID, f"{param}: {text[:80]!r} is no e-mail address", param)
    return text


def check_domain(text: str, param: str) -> str:
    """In small letters."""
    if not _DOMAIN.fullmatch(text):
        raise HearthError(Code.INVALID, f"{param}: {text[:80]!r} is no domain such as example.com", param)
    return text.lower()


def domain_of(email: str) -> str:
    return email.rpartition("@")[2].lower()
