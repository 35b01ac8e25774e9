"""Whose a key is, as a client sees it."""

from appliance.sdk.resources import Resource


class KeyHolder(Resource, frozen=True, kw_only=True):
    """What the server says of the key of a request."""

    account_id: str = ""
    user: str = ""
    """Full name."""
    role: str = ""
    key_id: str = ""
    version: str = ""
    """Of the daemon."""
