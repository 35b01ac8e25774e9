from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from appliance.config import GIB
from appliance.orchestrator.gpus import DeviceSample
from appliance.orchestrator.ledger import Ledger
from appliance.orchestrator.views import DeviceView, view_device
from appliance.services.device_metrics import DeviceMetrics
from tests.fakes.fake_gpus import FakeInventory, fake_device

DEVICE = fake_device(gigabytes=80)


class FakeDevices:
    def __init__(self) -> None:
        self.ledger = Ledger([DEVICE])

    def device_views(self) -> list[DeviceView]:
        return [view_device(DEVICE, self.ledger)]


def read(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    """Values by name and owner, all of one device."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    samples = [sample for family in families for sample in family.samples]
    assert {sample.labels["device"] for sample in samples} == {DEVICE.id}
    return {(sample.name, sample.labels.get("owner", "")): sample.value for sample in samples}


async def test_devices_are_told_with_what_their_driver_said_last() -> None:
    devices, inventory = FakeDevices(), FakeInventory(DEVICE)
    metrics = DeviceMetrics(devices, inventory)
    registry = CollectorRegistry()
    registry.register(metrics)
    devices.ledger.reserve("accounts/acme/deployments/d/replicas/0", [DEVICE.id], 20 * GIB)
    inventory.samples[DEVICE.id] = DeviceSample(utilization=0.5, power_w=350.0)
    await metrics.refresh()
    values = read(registry)
    assert values["hearth_device_memory_bytes", ""] == 80 * GIB
    assert values["hearth_device_free_bytes", ""] == 60 * GIB
    assert values["hearth_reserved_bytes", "accounts/acme/deployments/d/replicas/0"] == 20 * GIB
    assert values["hearth_device_utilization_ratio", ""] == 0.5
    assert values["hearth_device_power_watts", ""] == 350.0
    assert ("hearth_device_temperature_celsius", "") not in values, "the board does not measure it"

    inventory.is_answering = False
    await metrics.refresh()
    assert ("hearth_device_utilization_ratio", "") not in read(registry)
