import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import GIB, FleetSettings
from appliance.domain import Precision
from appliance.orchestrator.gpus import Device
from appliance.orchestrator.ledger import Ledger
from appliance.orchestrator.placement import (
    Demand,
    Placement,
    Unplaceable,
    context_length_of,
    demands_of,
    dtype_of,
    place,
    place_best,
)
from tests.appliance.orchestrator.samples import sample_deployment, sample_info
from tests.fakes.fake_gpus import fake_device


def demand(gigabytes: float, accelerator_type: str | None = None, count: int = 1) -> Demand:
    return Demand(int(gigabytes * GIB), accelerator_type, count)


def test_the_device_that_fits_tightest_is_filled() -> None:
    devices = [fake_device(0), fake_device(1), fake_device(2)]
    free_bytes = {"simulated-0": 70 * GIB, "simulated-1": 30 * GIB, "simulated-2": 20 * GIB}
    assert place(devices, free_bytes, demand(25)) == Placement(["simulated-1"], 25 * GIB)


def test_a_refusal_says_the_numbers() -> None:
    devices = [fake_device(0), fake_device(1)]
    free_bytes = {"simulated-0": int(27.8 * GIB), "simulated-1": 12 * GIB}
    assert place(devices, free_bytes, demand(31.2)) == Unplaceable(
        "needs 31.2 GiB on one NVIDIA_H100_80GB; free: simulated-0 27.8 GiB, simulated-1 12.0 GiB"
    )


def test_only_devices_of_the_asked_type_count() -> None:
    devices = [fake_device(0, accelerator_type="NVIDIA_L4_24GB"), fake_device(1)]
    free_bytes = {"simulated-0": 24 * GIB, "simulated-1": 80 * GIB}
    assert place(devices, free_bytes, demand(1, "NVIDIA_H100_80GB")) == Placement(["simulated-1"], GIB)
    refusal = place(devices, free_bytes, demand(1, "NVIDIA_B200_180GB"))
    assert refusal == Unplaceable("needs one NVIDIA_B200_180GB; this box has NVIDIA_H100_80GB, NVIDIA_L4_24GB")


def test_several_accelerators_per_replica_are_refused() -> None:
    refusal = place([fake_device()], {"simulated-0": 80 * GIB}, demand(1, count=2))
    assert isinstance(refusal, Unplaceable)
    assert "2 accelerators" in refusal.reason


def test_the_best_demand_that_fits_wins_and_the_most_modest_explains() -> None:
    devices, free_bytes = [fake_device()], {"simulated-0": 30 * GIB}
    assert place_best(devices, free_bytes, [demand(40), demand(25), demand(20)]) == Placement(["simulated-0"], 25 * GIB)
    refusal = place_best(devices, free_bytes, [demand(40), demand(35)])
    assert isinstance(refusal, Unplaceable)
    assert "needs 35.0 GiB" in refusal.reason


device_lists = st.lists(st.integers(1, 40), min_size=1, max_size=4).map(
    lambda sizes: [fake_device(index, gigabytes=size) for index, size in enumerate(sizes)]
)


@given(device_lists, st.lists(st.tuples(st.integers(1, 50 * GIB), st.integers(0, 3)), max_size=30))
def test_no_sequence_of_arrivals_and_departures_overcommits(
    devices: list[Device], arrivals: list[tuple[int, int]]
) -> None:
    ledger = Ledger(devices)
    owners: list[str] = []
    for number, (num_bytes, num_departures) in enumerate(arrivals):
        for owner in owners[:num_departures]:
            ledger.release(owner)
        owners = owners[num_departures:]
        result = place(devices, ledger.free(), Demand(num_bytes, None, 1))
        if isinstance(result, Placement):
            ledger.reserve(str(number), result.device_ids, result.num_bytes)  # raises when it overcommits
            owners.append(str(number))
        else:
            assert all(free_bytes < num_bytes for free_bytes in ledger.free().values())
        for device in devices:
            assert 0 <= sum(ledger.by_owner(device.id).values()) <= device.memory_bytes


def test_demands_become_more_modest_down_to_one_request() -> None:
    demands = demands_of(sample_deployment(), sample_info(), FleetSettings(kv_cache_concurrency=8), is_cuda=False)
    sizes = [each.num_bytes for each in demands]
    assert len(sizes) == 4
    assert sizes == sorted(sizes, reverse=True)


def test_a_draft_model_needs_room_beside_its_target() -> None:
    settings = FleetSettings(kv_cache_concurrency=2)
    alone = demands_of(sample_deployment(), sample_info(), settings, is_cuda=False)
    both = demands_of(sample_deployment(), sample_info(), settings, is_cuda=False, draft=sample_info())
    assert all(more.num_bytes > less.num_bytes for more, less in zip(both, alone, strict=True))


def test_a_deployment_may_shorten_the_context_and_not_lengthen_it() -> None:
    info = sample_info()
    assert context_length_of(sample_deployment(), info) == info.max_context_length
    assert context_length_of(sample_deployment(max_context_length=128), info) == 128
    assert context_length_of(sample_deployment(max_context_length=10**9), info) == info.max_context_length


@pytest.mark.parametrize(
    ("precision", "stored", "is_cuda", "dtype"),
    [
        (None, "bfloat16", False, "bfloat16"),
        (None, "float16", False, "float32"),
        (None, "float16", True, "float16"),
        (Precision.FP16, "bfloat16", False, "float32"),
        (Precision.FP32, "bfloat16", True, "float32"),
        (Precision.BF16, "float32", False, "bfloat16"),
    ],
)
def test_a_cpu_never_serves_half_precision(precision: Precision | None, stored: str, is_cuda: bool, dtype: str) -> None:
    assert dtype_of(sample_deployment(precision=precision), sample_info(dtype=stored), is_cuda) == dtype
