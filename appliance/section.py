"""What a table of settings is, and the units that settings are written in."""

import msgspec

MIB = 1024 * 1024
GIB = 1024 * MIB


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass
