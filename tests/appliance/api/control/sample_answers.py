"""Resources as clients see them, for filters, orders and masks."""

from appliance.api.control.wire import Answer, Status


class Boat(Answer, frozen=True, kw_only=True):
    name: str
    display_name: str = ""
    state: str = "READY"
    status: Status = Status()
    mast_count: int | None = None
    is_public: bool = False
    tags: list[str] = []
    annotations: dict[str, str] = {}
    weight: str = "0"
    """A 64-bit number, so a string."""
    create_time: str | None = None


BOATS = [
    Boat(
        name="accounts/acme/boats/ada",
        display_name="Ada the First",
        mast_count=1,
        tags=["red", "old"],
        annotations={"team": "shop"},
        weight="900",
        create_time="2026-01-01T10:00:00Z",
    ),
    Boat(
        name="accounts/acme/boats/bob",
        display_name="bob",
        state="FAILED",
        status=Status(code="INTERNAL", message="no room in the harbour"),
        mast_count=2,
        is_public=True,
        weight="1000",
        create_time="2026-01-02T10:00:00.500000Z",
    ),
    Boat(name="accounts/acme/boats/eve", annotations={"team": "dock", "odd.key": "x"}, weight="20"),
]


def letters(boats: list[Boat]) -> str:
    """The first letter of each one's id."""
    return "".join(boat.name.rpartition("/")[2][0] for boat in boats)
