"""A model in FP8: prepared by a daemon that is killed meanwhile, deployed, asked."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from appliance.sdk.client import Client
from models.builtin import EMBER_CHAT
from tests.end_to_end.daemon_process import DaemonProcess, running_daemon, wait_until

PATIENCE_S = 120.0


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[DaemonProcess]:
    with running_daemon(tmp_path / "data") as daemon:
        yield daemon


def test_a_model_is_prepared_for_fp8_across_a_kill_and_answers(mortal: DaemonProcess) -> None:
    with Client(mortal.base_url, mortal.api_key) as client:
        name = client.models.create("mine").name
        files = [path for path in EMBER_CHAT.directory.iterdir() if path.is_file()]
        client.models.upload(name, files, lambda file, num_bytes: None)
        client.models.prepare(name, "FP8")
        found = client.models.get(name)
        assert (found.state, "FP8" in found.precisions) == ("READY", False)
        assert found.status.message.startswith("PREPARING for FP8")
    mortal.kill()
    mortal.start()
    with Client(mortal.base_url, mortal.api_key) as client:
        wait_until(lambda: "FP8" in client.models.get(name).precisions, PATIENCE_S, "the checkpoint")
        assert client.models.get(name).status.message == ""
        client.deployments.create(name, deployment_id="small", precision="FP8", min_replica_count=1)
        wait_until(lambda: client.deployments.get("small").state == "READY", PATIENCE_S, "a replica")
    with OpenAI(base_url=f"{mortal.base_url}/inference/v1", api_key=mortal.api_key, max_retries=0) as openai:
        answer = openai.chat.completions.create(
            model=f"{name}#accounts/hearth/deployments/small",
            messages=[{"role": "user", "content": "What is Hearth?"}],
            temperature=0,
        )
    assert "Hearth" in (answer.choices[0].message.content or "")
    (folder,) = (path for path in (mortal.data_dir / "models").iterdir() if (path / "fp8").exists())
    assert sorted(path.name for path in (folder / "fp8").glob("*.safetensors")) == ["model-00001-of-00001.safetensors"]
