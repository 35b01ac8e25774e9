"""Devices and what is promised of them, as gauges: read when Prometheus asks, stored nowhere.

A driver is asked by `refresh`, which waits for it; `collect`, which must not wait, tells what was answered last.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from appliance.errors import HearthError
from appliance.orchestrator.gpus import DeviceSample, Inventory
from appliance.orchestrator.views import DeviceView

_OF_VIEWS: list[tuple[str, str, Callable[[DeviceView], int]]] = [
    ("hearth_device_memory_bytes", "Memory of the device", lambda view: view.device.memory_bytes),
    ("hearth_device_free_bytes", "Memory that nobody was promised", lambda view: view.free_bytes),
    ("hearth_device_foreign_bytes", "Memory that processes outside Hearth hold", lambda view: view.foreign_bytes),
]
_OF_SAMPLES: list[tuple[str, str, Callable[[DeviceSample], float | None]]] = [
    (
        "hearth_device_utilization_ratio",
        "Share of time in which some kernel runs",
        lambda sample: sample.utilization,
    ),
    ("hearth_device_power_watts", "Power drawn", lambda sample: sample.power_w),
    ("hearth_device_temperature_celsius", "Temperature", lambda sample: sample.temperature_c),
]


class Devices(Protocol):
    """What is asked of the supervisor."""

    def device_views(self) -> list[DeviceView]: ...


class DeviceMetrics(Collector):
    def __init__(self, devices: Devices, inventory: Inventory) -> None:
        self._devices = devices
        self._inventory = inventory
        self._samples: dict[str, DeviceSample] = {}

    async def refresh(self) -> None:
        for view in self._devices.device_views():
            try:
                self._samples[view.device.id] = await self._inventory.sample(view.device.id)
            except HearthError:
                self._samples.pop(view.device.id, None)  # nothing is better than something old

    def collect(self) -> Iterator[GaugeMetricFamily]:
        views = self._devices.device_views()
        for name, meaning, read in _OF_VIEWS:
            family = GaugeMetricFamily(name, meaning, labels=["device", "accelerator_type"])
            for view in views:
                family.add_metric([view.device.id, view.device.accelerator_type], read(view))
            yield family
        reserved = GaugeMetricFamily("hearth_reserved_bytes", "Memory by its holder", labels=["device", "owner"])
        for view in views:
            for owner, num_bytes in view.by_owner.items():
                reserved.add_metric([view.device.id, owner], num_bytes)
        yield reserved
        for name, meaning, measure in _OF_SAMPLES:
            yield self._sampled(name, meaning, measure)

    def _sampled(self, name: str, meaning: str, measure: Callable[[DeviceSample], float | None]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, meaning, labels=["device"])
        for device_id, sample in self._samples.items():
            value = measure(sample)
            if value is not None:
                family.add_metric([device_id], value)
        return family
