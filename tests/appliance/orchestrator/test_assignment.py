from pathlib import Path

import pytest

from appliance.config import GIB, FleetSettings
from appliance.orchestrator.assignment import Place, ReplicaPlan, Served, assign, can_sleep, find_obstacle
from appliance.orchestrator.gpus import CPU, Device
from tests.appliance.orchestrator.samples import llm_settings, sample_deployment, sample_info, sample_settings
from tests.fakes.fake_gpus import fake_device

CPU_DEVICE = Device(id="cpu", index=0, accelerator_type=CPU, memory_bytes=64 * GIB, is_cuda=False)
GPU = Device(id="GPU-1", index=0, accelerator_type="NVIDIA_H100_80GB", memory_bytes=80 * GIB, is_cuda=True)


def assigned(*devices: Device, settings: FleetSettings | None = None, **changes: object) -> ReplicaPlan:
    served = Served(Path("/models/m"), sample_info(gigabytes=2))
    draft = Served(Path("/models/tiny"), sample_info(gigabytes=1))
    return assign(
        sample_deployment(**changes),
        served,
        draft if "draft_model" in changes else None,
        Place(3, devices, 7 * GIB),
        settings or sample_settings(addons_max=4),
        num_devices=len(devices),
        footprint_key="key",
        fixed_bytes=3 * GIB,
    )


def test_a_worker_is_told_its_budget_and_sees_its_own_devices_only() -> None:
    plan = assigned(GPU, revision=5)
    assert plan.label == "accounts/acme/deployments/d/replicas/3"
    assert (plan.revision, plan.reserved_bytes, plan.device_ids) == (5, 7 * GIB, ["GPU-1"])
    assert plan.load.settings.memory_budget_bytes == 7 * GIB
    assert plan.load.settings.device == "cuda:0"


def test_a_replica_may_lie_on_several_devices() -> None:
    plan = assigned(fake_device(0), fake_device(2))
    assert plan.device_ids == ["simulated-0", "simulated-2"]
    assert (plan.reserved_bytes, plan.load.settings.memory_budget_bytes) == (7 * GIB, 7 * GIB), "of each"
    assert (llm_settings(plan).num_devices, llm_settings(plan).fixed_bytes) == (2, 3 * GIB)


def test_room_for_addons_is_asked_for_only_where_they_are_enabled() -> None:
    assert llm_settings(assigned(GPU)).max_num_adapters == 0
    assert llm_settings(assigned(GPU, enable_addons=True)).max_num_adapters == 4


def test_how_keys_and_values_are_kept_is_the_box_owners_choice() -> None:
    assert llm_settings(assigned(GPU)).kv_cache_dtype == "auto"
    assert llm_settings(assigned(GPU, settings=sample_settings(kv_cache_dtype="fp8"))).kv_cache_dtype == "fp8"


def test_latents_are_kept_by_one_device_without_addons() -> None:
    assert llm_settings(assigned(GPU)).keeps_latents
    assert not llm_settings(assigned(GPU, enable_addons=True)).keeps_latents
    assert not llm_settings(assigned(GPU, GPU, accelerator_count=2)).keeps_latents
    assert not llm_settings(assigned(GPU, settings=sample_settings(enable_latent_cache=False))).keeps_latents


def test_looking_ahead_is_the_workers_choice_unless_it_is_switched_off() -> None:
    assert llm_settings(assigned(GPU)).look_ahead is None
    assert llm_settings(assigned(GPU, settings=sample_settings(enable_look_ahead=False))).look_ahead is False


def test_asleep_it_keeps_the_weights_of_both_models_where_that_frees_anything() -> None:
    assert assigned(GPU).host_bytes == 2 * GIB
    assert assigned(GPU, draft_model="accounts/acme/models/tiny").host_bytes == 3 * GIB
    assert assigned(CPU_DEVICE).host_bytes == 0
    assert not can_sleep([CPU_DEVICE])


@pytest.mark.parametrize(
    ("kind", "count", "obstacle"),
    [
        (None, 1, ""),
        ("NVIDIA_H100_80GB", 2, ""),
        ("NVIDIA_H100_80GB", 3, "needs 3 NVIDIA_H100_80GB for each replica; this box has 2"),
        (None, 3, "needs 3 devices of one type for each replica; this box has 2"),
        ("NVIDIA_B200_180GB", 1, "needs one NVIDIA_B200_180GB; this box has NVIDIA_H100_80GB, NVIDIA_L4_24GB"),
    ],
)
def test_what_the_box_can_never_run_is_told_from_what_must_wait(kind: str | None, count: int, obstacle: str) -> None:
    devices = [fake_device(0), fake_device(1), fake_device(2, accelerator_type="NVIDIA_L4_24GB")]
    assert find_obstacle(sample_deployment(accelerator_type=kind, accelerator_count=count), devices) == obstacle


def test_steps_on_a_cpu_are_short_enough_for_others_to_get_tokens_meanwhile() -> None:
    settings = sample_settings(max_batch_tokens=2048, max_batch_tokens_on_cpu=512)
    assert llm_settings(assigned(GPU, settings=settings)).max_batch_tokens == 2048
    assert llm_settings(assigned(CPU_DEVICE, settings=settings)).max_batch_tokens == 512
