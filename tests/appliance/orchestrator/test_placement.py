import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import GIB, FleetSettings
from appliance.domain import Footprint, Precision, ShapePreset
from appliance.orchestrator.fleet import Demand
from appliance.orchestrator.gpus import Device
from appliance.orchestrator.ledger import Ledger
from appliance.orchestrator.placement import (
    Placement,
    context_length_of,
    demands_of,
    dtype_of,
    find_lack,
    fixed_bytes_of,
    keeps_fp8,
    place,
    place_best,
)
from models.info import Fp8Info, LatentInfo, ModelInfo
from models.sizing import kv_cache_bytes, step_bytes
from tests.appliance.orchestrator.fleet_samples import demand
from tests.appliance.orchestrator.samples import sample_deployment, sample_info
from tests.fakes.fake_gpus import fake_device

H100 = [fake_device(index) for index in range(3)]


def test_the_device_that_fits_tightest_is_filled() -> None:
    free_bytes = {"simulated-0": 70 * GIB, "simulated-1": 30 * GIB, "simulated-2": 20 * GIB}
    assert place(H100, free_bytes, demand(25)) == Placement(("simulated-1",), 25 * GIB)


def test_only_devices_of_the_asked_type_count() -> None:
    devices = [fake_device(0, accelerator_type="NVIDIA_L4_24GB"), fake_device(1)]
    free_bytes = {"simulated-0": 24 * GIB, "simulated-1": 80 * GIB}
    assert place(devices, free_bytes, demand(1, "NVIDIA_H100_80GB")) == Placement(("simulated-1",), GIB)
    assert place(devices, free_bytes, demand(1, "NVIDIA_B200_180GB")) is None


def test_several_devices_are_the_tightest_of_one_type() -> None:
    devices = [*H100, fake_device(3, accelerator_type="NVIDIA_L4_24GB")]
    free_bytes = {"simulated-0": 80 * GIB, "simulated-1": 40 * GIB, "simulated-2": 50 * GIB, "simulated-3": 41 * GIB}
    assert place(devices, free_bytes, demand(40, count=2)) == Placement(("simulated-1", "simulated-2"), 40 * GIB)
    assert place(devices, free_bytes, demand(45, count=3)) is None


def test_named_devices_are_the_only_ones() -> None:
    free_bytes = {"simulated-0": 80 * GIB, "simulated-1": 40 * GIB, "simulated-2": 50 * GIB}
    assert place(H100, free_bytes, Demand(GIB, None, 1, ("simulated-0",))) == Placement(("simulated-0",), GIB)


def test_one_that_takes_all_that_is_free_goes_where_most_is() -> None:
    free_bytes = {"simulated-0": 60 * GIB, "simulated-1": 70 * GIB, "simulated-2": 20 * GIB}
    greedy = Demand(10 * GIB, None, 1, takes_all_free=True)
    assert place(H100, free_bytes, greedy) == Placement(("simulated-1",), 70 * GIB)
    pair = Demand(10 * GIB, None, 2, takes_all_free=True)
    assert place(H100, free_bytes, pair) == Placement(("simulated-1", "simulated-0"), 60 * GIB)


@pytest.mark.parametrize(
    ("kind", "count", "lack"),
    [
        (None, 3, ""),
        ("NVIDIA_H100_80GB", 3, ""),
        ("NVIDIA_B200_180GB", 1, "needs one NVIDIA_B200_180GB; this box has NVIDIA_H100_80GB, NVIDIA_L4_24GB"),
        ("NVIDIA_L4_24GB", 2, "needs 2 NVIDIA_L4_24GB for each replica; this box has 1"),
        (None, 4, "needs 4 devices of one type for each replica; this box has 3"),
    ],
)
def test_devices_that_are_lacking_are_named(kind: str | None, count: int, lack: str) -> None:
    devices = [*H100, fake_device(3, accelerator_type="NVIDIA_L4_24GB")]
    assert find_lack(devices, kind, count) == lack


def test_the_best_demand_that_fits_wins() -> None:
    free_bytes = {"simulated-0": 30 * GIB}
    sizes = [demand(40), demand(25), demand(20)]
    assert place_best(H100[:1], free_bytes, sizes) == Placement(("simulated-0",), 25 * GIB)
    assert place_best(H100[:1], free_bytes, sizes[:1]) is None


device_lists = st.lists(st.integers(1, 40), min_size=1, max_size=4).map(
    lambda sizes: [fake_device(index, gigabytes=size) for index, size in enumerate(sizes)]
)
arrivals = st.lists(
    st.tuples(st.integers(1, 50 * GIB), st.integers(1, 3), st.booleans(), st.integers(0, 3)), max_size=30
)


@given(device_lists, arrivals)
def test_no_sequence_of_arrivals_and_departures_overcommits(
    devices: list[Device], arrivals: list[tuple[int, int, bool, int]]
) -> None:
    ledger = Ledger(devices)
    owners: list[str] = []
    for number, (num_bytes, count, takes_all, num_departures) in enumerate(arrivals):
        for owner in owners[:num_departures]:
            ledger.release(owner)
        owners = owners[num_departures:]
        placement = place(devices, ledger.free(), Demand(num_bytes, None, count, takes_all_free=takes_all))
        if placement is None:
            assert sum(free_bytes >= num_bytes for free_bytes in ledger.free().values()) < count
        else:
            assert placement.num_bytes >= num_bytes
            assert len(set(placement.device_ids)) == count
            ledger.reserve(str(number), placement.device_ids, placement.num_bytes)  # raises when it overcommits
            owners.append(str(number))


# ---- how much


def kv_bytes(concurrency: int) -> int:
    return kv_cache_bytes([sample_info()], "bfloat16", max_context_length=2048, concurrency=concurrency)


def test_demands_become_more_modest_down_to_one_request() -> None:
    demands = demands_of(sample_deployment(), sample_info(), FleetSettings(kv_cache_concurrency=8), H100)
    fixed = fixed_bytes_of(sample_deployment(), sample_info(), FleetSettings(), H100)
    assert [each.num_bytes - fixed for each in demands] == [kv_bytes(count) for count in (8, 4, 2, 1)]


def test_how_keys_and_values_are_kept_is_counted() -> None:
    attention = msgspec.structs.replace(sample_info().attention, latent=LatentInfo(size=16, rotated_size=8))
    info = msgspec.structs.replace(sample_info(), attention=attention)

    def one_request(settings: FleetSettings) -> int:
        deployment = sample_deployment(shape_preset=ShapePreset.MINIMAL)
        (demand,) = demands_of(deployment, info, settings, H100)
        return demand.num_bytes - fixed_bytes_of(deployment, info, settings, H100)

    def expected(served: ModelInfo, *, is_kv_fp8: bool = False) -> int:
        return kv_cache_bytes([served], "bfloat16", max_context_length=2048, concurrency=1, is_kv_fp8=is_kv_fp8)

    assert one_request(FleetSettings()) == expected(info.compressed())
    assert one_request(FleetSettings(enable_latent_cache=False)) == expected(info)
    assert one_request(FleetSettings(kv_cache_dtype="fp8")) == expected(info.compressed(), is_kv_fp8=True)


def test_fast_is_what_there_is_without_a_preset() -> None:
    fast = sample_deployment(shape_preset=ShapePreset.FAST)
    settings = FleetSettings()
    assert demands_of(fast, sample_info(), settings, H100) == demands_of(
        sample_deployment(), sample_info(), settings, H100
    )


def test_minimal_asks_for_one_request_only() -> None:
    minimal = sample_deployment(shape_preset=ShapePreset.MINIMAL)
    usual = demands_of(sample_deployment(), sample_info(), FleetSettings(), H100)
    assert demands_of(minimal, sample_info(), FleetSettings(), H100) == usual[-1:]


def test_throughput_takes_all_that_is_free_and_lives_with_little() -> None:
    greedy = demands_of(sample_deployment(shape_preset=ShapePreset.THROUGHPUT), sample_info(), FleetSettings(), H100)
    usual = demands_of(sample_deployment(), sample_info(), FleetSettings(), H100)
    assert all(each.takes_all_free for each in greedy)
    assert [each.num_bytes for each in greedy] == [each.num_bytes for each in usual]


def test_a_fraction_for_the_kv_cache_comes_before_the_usual_steps() -> None:
    settings, info = FleetSettings(), sample_info()
    half = sample_deployment(kv_cache_fraction=0.5)
    fixed = fixed_bytes_of(half, info, settings, H100)
    demands = demands_of(half, info, settings, H100)
    assert [each.num_bytes - fixed for each in demands] == [40 * GIB, *(kv_bytes(count) for count in (8, 4, 2, 1))]


def test_a_fraction_leaves_room_for_the_model_and_for_one_request() -> None:
    settings, info = FleetSettings(), sample_info()
    whole = demands_of(sample_deployment(kv_cache_fraction=1.0), info, settings, H100)
    assert whole[0].num_bytes == 80 * GIB
    sliver = demands_of(sample_deployment(kv_cache_fraction=1e-6), info, settings, H100)
    assert sliver == demands_of(sample_deployment(shape_preset=ShapePreset.MINIMAL), info, settings, H100)


def test_a_measured_footprint_replaces_the_estimate_of_all_but_kv_and_steps() -> None:
    settings, info = FleetSettings(kv_cache_concurrency=1), sample_info()
    measured = Footprint(key="k", num_bytes=5 * GIB, kv_bytes=2 * GIB, load_s=1.0, warm_load_s=None, measured_at=0.0)
    (only,) = demands_of(sample_deployment(), info, settings, H100, footprint=measured)
    tokens = settings.batch_tokens(is_cuda=H100[0].is_cuda)
    step = step_bytes([info], "bfloat16", tokens, settings.max_num_requests)
    assert only.num_bytes == 3 * GIB + step + kv_bytes(1)
    on_two = fixed_bytes_of(sample_deployment(accelerator_count=2), info, settings, H100, footprint=measured)
    assert on_two == 3 * GIB + step, "it was measured on the one that holds most"


def test_addons_need_room_where_they_are_enabled() -> None:
    def fixed(**changes: bool) -> int:
        return fixed_bytes_of(sample_deployment(**changes), sample_info(), FleetSettings(), H100)

    assert fixed(enable_addons=True) > fixed(enable_addons=False)


def test_weights_stay_in_8_bits_where_every_device_multiplies_them_and_nothing_else_is_asked_for() -> None:
    able = [msgspec.structs.replace(device, is_cuda=True, multiplies_fp8=True) for device in H100]
    info = sample_info()
    assert keeps_fp8(sample_deployment(), info, able)
    assert keeps_fp8(sample_deployment(precision=Precision.FP8), info, able)
    assert keeps_fp8(sample_deployment(precision=Precision.FP8), msgspec.structs.replace(info, dtype="float16"), able)
    assert not keeps_fp8(sample_deployment(precision=Precision.BF16), info, able)
    assert not keeps_fp8(sample_deployment(), msgspec.structs.replace(info, dtype="float16"), able)
    assert not keeps_fp8(sample_deployment(), info, [*able, H100[0]])
    assert not keeps_fp8(sample_deployment(), info, [])
    other = msgspec.structs.replace(H100[0], accelerator_type="NVIDIA_L4_24GB")
    assert keeps_fp8(sample_deployment(accelerator_type="NVIDIA_H100_80GB"), info, [*able, other])


def test_a_replica_of_8_bit_weights_takes_about_half() -> None:
    able = [msgspec.structs.replace(device, is_cuda=True, multiplies_fp8=True) for device in H100]
    plain = sample_info(gigabytes=20)
    number = plain.num_parameters
    fp8 = Fp8Info(layout="row", num_parameters=number, num_staying_parameters=number, num_staying_rows=1000)
    info = msgspec.structs.replace(plain, fp8=fp8)
    kept, converted = (
        fixed_bytes_of(sample_deployment(), info, FleetSettings(), each) for each in (able, able[:1] + H100)
    )
    assert converted - kept > 9 * GIB
    measured = Footprint(key="k", num_bytes=5 * GIB, kv_bytes=2 * GIB, load_s=1.0, warm_load_s=None, measured_at=0.0)
    by_measure = [
        fixed_bytes_of(sample_deployment(), each, FleetSettings(), able, footprint=measured) for each in (plain, info)
    ]
    assert by_measure[1] > by_measure[0], "each step rounds its inputs"


def test_over_two_devices_each_holds_more_than_half() -> None:
    settings, info = FleetSettings(kv_cache_concurrency=1), sample_info(gigabytes=60)
    (one,) = demands_of(sample_deployment(), info, settings, H100)
    (two,) = demands_of(sample_deployment(accelerator_count=2), info, settings, H100)
    assert two.accelerator_count == 2
    assert one.num_bytes / 2 < two.num_bytes < one.num_bytes * 0.6


def test_a_draft_model_needs_room_beside_its_target() -> None:
    settings = FleetSettings(kv_cache_concurrency=2)
    alone = demands_of(sample_deployment(), sample_info(), settings, H100)
    both = demands_of(sample_deployment(), sample_info(), settings, H100, draft=sample_info())
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
