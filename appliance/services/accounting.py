"""What may be used, and what was: taken over from the store at start, written every second, closed at the end."""

from collections.abc import Callable, Iterable, Sequence

from appliance.config import Config
from appliance.domain import Deployment
from appliance.orchestrator.gpus import Device
from appliance.services.admission import Admission
from appliance.services.device_time import LOOK_INTERVAL_S, DeviceTime, SeenReplica
from appliance.services.prices import Prices
from appliance.services.quotas import Quotas
from appliance.services.spending import Spending
from appliance.services.ticks import Ticks
from appliance.services.usage import Usage
from appliance.services.usage_journal import UsageJournal
from appliance.store import accelerator_usage, token_usage
from appliance.store.database import Database

SWEEP_INTERVAL_S = 3600.0


class Accounting:
    def __init__(
        self,
        config: Config,
        database: Database,
        devices: Sequence[Device],
        list_replicas: Callable[[], Iterable[tuple[Deployment, SeenReplica]]],
    ) -> None:
        """`list_replicas` is the supervisor's: of every account."""
        self._database = database
        self._interval_s = config.usage.metering_interval_s
        self.prices = Prices(config.prices)
        self._spending = Spending(self.prices)
        self._journal = UsageJournal(database, config.usage.usage_kept_days)
        self._device_time = DeviceTime(devices, list_replicas, self._journal, self._spending)
        self.quotas = Quotas(database, config.identity, self._spending, self.prices)
        self.admission = Admission(self.quotas, self._spending, self.prices, self._journal)
        self.usage = Usage(database, config.identity, self.prices, self.flush)

    async def restore(self) -> None:
        """Before the first request: what the last daemon left behind, and what the month has used."""
        await self._journal.restore()
        async with self._database.reader() as db:
            month = self._spending.month_started_at
            self._spending.load(await token_usage.sum_since(db, month), await accelerator_usage.sum_since(db, month))
        await self.quotas.restore()

    def join(self, ticks: Ticks) -> None:
        """Before they start."""
        ticks.add(self._device_time.look, LOOK_INTERVAL_S)
        ticks.add(self.admission.flush, self._interval_s)
        ticks.add(self._journal.sweep, SWEEP_INTERVAL_S)

    async def flush(self) -> None:
        """All that was used until now is on the disk when this returns; before a backup, for example."""
        await self._device_time.look()
        self._device_time.tell()
        await self.admission.flush()

    async def close(self) -> None:
        """After the last request and the last tick."""
        await self.flush()
