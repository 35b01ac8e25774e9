import asyncio
from pathlib import Path

from appliance.config import FleetSettings
from appliance.orchestrator.launching import ProcessLauncher
from appliance.orchestrator.ledger import Ledger
from appliance.orchestrator.quiet import Quiet
from appliance.orchestrator.spares import Spares
from appliance.store.database import Database
from tests.appliance.orchestrator.samples import sample_plan, sample_settings
from tests.fakes.fake_gpus import FakeInventory, fake_device
from tests.waiting import until


def launcher_of(settings: FleetSettings, database: Database, run_dir: Path) -> tuple[ProcessLauncher, Spares]:
    inventory = FakeInventory(fake_device(0), fake_device(1))
    spares = Spares(settings, database, inventory, Ledger(inventory.devices), Quiet(settle_s=0.0))
    return ProcessLauncher(settings, run_dir, spares), spares


async def test_without_a_spare_worker_a_new_process_is_started(tmp_path: Path, database: Database) -> None:
    launcher, _ = launcher_of(sample_settings(), database, tmp_path / "run")
    await launcher.start()
    launched = await launcher.launch(sample_plan())
    assert launched.client is None
    wanted = "--deployment accounts/acme/deployments/d --replica 0"
    command = Path(f"/proc/{launched.worker.pid}/cmdline")
    await until(lambda: wanted in command.read_text().replace("\0", " "))
    environment = await asyncio.to_thread(Path(f"/proc/{launched.worker.pid}/environ").read_text)
    assert f"TRITON_CACHE_DIR={tmp_path}/kernel-cache/triton" in environment.split("\0")
    assert (tmp_path / "kernel-cache").stat().st_mode & 0o777 == 0o700
    await launched.worker.close()
    await launcher.close()


async def test_a_spare_worker_is_taken_for_one_device_and_not_for_two(tmp_path: Path, database: Database) -> None:
    launcher, spares = launcher_of(sample_settings(num_spare_workers=1), database, tmp_path / "run")
    await launcher.start()
    await until(lambda: any(view.is_prepared for view in spares.views()))
    (spare,) = spares.views()
    wide = await launcher.launch(sample_plan(devices=(fake_device(0), fake_device(1))))
    assert wide.client is None
    narrow = await launcher.launch(sample_plan())
    assert narrow.client is not None
    assert narrow.worker.pid == spare.pid
    await narrow.client.close("the test is over")
    for launched in (wide, narrow):
        await launched.worker.close()
    await launcher.close()
    assert spares.views() == []
