"""A device inventory that a test writes: any devices, and any processes holding their memory."""

from appliance.config import GIB
from appliance.errors import Code, HearthError
from appliance.orchestrator.gpus import Device, DeviceSample


def fake_device(index: int = 0, gigabytes: int = 80, accelerator_type: str = "NVIDIA_H100_80GB") -> Device:
    """Its workers run on the CPU, as on a simulated GPU."""
    return Device(
        id=f"simulated-{index}",
        index=index,
        accelerator_type=accelerator_type,
        memory_bytes=gigabytes * GIB,
        is_cuda=False,
    )


class FakeInventory:
    def __init__(self, *devices: Device) -> None:
        self.devices = list(devices) or [fake_device()]
        self.used: dict[str, dict[int, int]] = {device.id: {} for device in self.devices}
        """Bytes by pid, by device; what `used_bytes` answers."""
        self.samples: dict[str, DeviceSample] = {}
        self.is_answering = True

    async def used_bytes(self, device_id: str) -> dict[int, int]:
        if not self.is_answering:
            raise HearthError(Code.UNAVAILABLE, "the driver does not answer")
        return self.used[device_id]

    async def sample(self, device_id: str) -> DeviceSample:
        if not self.is_answering:
            raise HearthError(Code.UNAVAILABLE, "the driver does not answer")
        return self.samples.get(device_id, DeviceSample())
