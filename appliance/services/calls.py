"""What one client call asks of an engine that is no language model's. Knows no wire format and runs nothing."""

from collections.abc import AsyncIterator, Callable

import msgspec

from appliance.services.demands import Demand
from appliance.services.targets import Target
from runtime.protocol import AnyFollowUp, OtherTask


class Call(msgspec.Struct, frozen=True, kw_only=True):
    request_id: str
    """Made by the server."""
    model: str
    """As the client names it; see `Generation.model`."""
    make_task: Callable[[Target], OtherTask]
    """Once it is known what carries it out; raises `invalid` for what that cannot do. Its ids are filled in later."""
    demand: Demand
    follow_ups: Callable[[], AsyncIterator[AnyFollowUp]] | None = None
    """Later parts of the task, from the beginning each time it is called. What they raise ends the call."""
    has_deadline: bool = True
    """False: it lasts as long as its client likes."""
    is_repeatable: bool = True
    """Whether a second worker could be asked when the first is lost before it answered."""
    affinity_key: str | None = None
    cold_start_wait_s: float | None = None
