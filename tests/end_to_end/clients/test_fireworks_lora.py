"""A LoRA addon through the real `fireworks` package: uploaded, loaded, asked by each of its names, unloaded."""

from collections.abc import Iterator
from pathlib import Path

import fireworks
import httpx
import psutil
import pytest
from fireworks import Fireworks

from tests.end_to_end.daemon_process import DaemonProcess, running_daemon, wait_until
from tests.fakes.tiny_addon import build_tiny_addon
from tests.fakes.tiny_llm import build_tiny_model

BASE, ADDON = "accounts/hearth/models/base", "accounts/hearth/models/accent"
DEPLOYMENT = "accounts/hearth/deployments/choir"
READY_WITHIN_S = 60.0


class World:
    """A daemon with a base model on a deployment that takes addons, and an addon of it that is not deployed."""

    def __init__(self, daemon: DaemonProcess, client: Fireworks) -> None:
        self.daemon = daemon
        self.client = client

    def upload(self, model_id: str, folder: Path, **properties: object) -> None:
        self.client.models.create(model_id=model_id, model=properties)  # type: ignore[arg-type]
        files = sorted(folder.iterdir())
        sizes = {file.name: str(file.stat().st_size) for file in files}
        urls = self.client.models.get_upload_endpoint(model_id, filename_to_size=sizes).filename_to_signed_urls
        assert urls is not None
        for file in files:
            httpx.put(urls[file.name], content=file.read_bytes()).raise_for_status()
        self.client.models.validate_upload(model_id)

    def load(self) -> str:
        """The deployed model's name, once it answers."""
        loaded = self.client.lora.load(model=ADDON, deployment=DEPLOYMENT)
        assert loaded.name is not None
        deployed_model_id = loaded.name.rpartition("/")[2]
        wait_until(
            lambda: self.client.lora.get(deployed_model_id).state == "DEPLOYED", READY_WITHIN_S, "the addon is deployed"
        )
        return loaded.name

    def unload(self, name: str) -> None:
        deployed_model_id = name.rpartition("/")[2]
        self.client.lora.unload(deployed_model_id)
        wait_until(lambda: not self.is_there(deployed_model_id), READY_WITHIN_S, "the addon is gone")

    def is_there(self, deployed_model_id: str) -> bool:
        try:
            self.client.lora.get(deployed_model_id)
        except fireworks.NotFoundError:
            return False
        return True

    def say(self, model: str) -> str:
        answer = self.client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "Sing."}], max_tokens=6, temperature=0
        )
        return str(answer.choices[0].message.content)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Of a daemon of its own: others count the workers of the shared one."""
    root = tmp_path_factory.mktemp("lora")
    base = build_tiny_model(root / "base", "llama")
    addon = build_tiny_addon(root / "addon", base)
    with (
        running_daemon(root / "data") as daemon,
        Fireworks(base_url=daemon.base_url, api_key=daemon.api_key, account_id="hearth", max_retries=0) as client,
    ):
        world = World(daemon, client)
        world.upload("base", base, kind="HF_BASE_MODEL")
        details = {"base_model": BASE, "r": 4, "target_modules": ["q_proj"]}
        world.upload("accent", addon, kind="HF_PEFT_ADDON", peft_details=details)
        client.deployments.create(base_model=BASE, deployment_id="choir", enable_addons=True, min_replica_count=1)
        wait_until(lambda: client.deployments.get("choir").state == "READY", READY_WITHIN_S, "the deployment is ready")
        yield world


def test_an_addon_answers_under_every_name_and_its_base_model_stays_itself(world: World) -> None:
    plain = world.say(BASE)
    with pytest.raises(fireworks.NotFoundError, match="not deployed"):
        world.say(ADDON)
    name = world.load()
    assert [each.name for each in world.client.lora.list(filter=f'model="{ADDON}"')] == [name]
    accented = world.say(ADDON)
    assert accented != plain, "its weights tell"
    for model in (name, f"{ADDON}#{DEPLOYMENT}", "accent"):
        assert world.say(model) == accented, model
    for model in (BASE, DEPLOYMENT):
        assert world.say(model) == plain, model
    world.unload(name)
    with pytest.raises(fireworks.NotFoundError, match="not deployed"):
        world.say(ADDON)
    assert world.say(BASE) == plain


def test_an_addon_is_there_again_after_its_worker_was_killed(world: World) -> None:
    name = world.load()
    accented = world.say(ADDON)
    (worker,) = [child for child in psutil.Process(world.daemon.pid).children() if "choir" in " ".join(child.cmdline())]
    worker.kill()
    wait_until(lambda: not worker.is_running(), READY_WITHIN_S, "the worker is gone")
    assert world.say(name) == accented
    world.unload(name)
