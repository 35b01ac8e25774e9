"""What every noun is: an immutable value with an owner."""

import msgspec


class Noun(msgspec.Struct, frozen=True, kw_only=True):
    """Immutable; `msgspec.structs.replace` makes the changed copy."""
