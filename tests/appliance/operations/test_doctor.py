from pathlib import Path

from appliance.config import Config, FleetSettings, ServerSettings
from appliance.operations.doctor import examine
from tests.appliance.operations.data_dir import fill_data_dir


def test_the_machine_and_the_state_are_looked_at(tmp_path: Path) -> None:
    fleet = FleetSettings(simulated_gpus="1xNVIDIA_L4_24GB")
    config = Config(data_dir=fill_data_dir(tmp_path / "data"), server=ServerSettings(port=0), fleet=fleet)
    checks = [finding.check for finding in examine(config)]
    assert {"Devices", "Database"} <= set(checks)
    assert len(checks) == len(set(checks))
