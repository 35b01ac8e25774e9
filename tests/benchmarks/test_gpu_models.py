import torch

from benchmarks.gpu_engines import Job, add_requests, make_engine
from benchmarks.gpu_models import EVERYTHING, LLAMA_8B, QWEN3_06B, Switches, build_model, config_of
from benchmarks.gpu_setting import Setting
from runtime.llm.patches.fused_layer import FusedLayer

CPU = torch.device("cpu")


def tokens_of(shape: str, switches: Switches) -> list[list[int]]:
    torch.manual_seed(0)
    setting = Setting(CPU, is_tiny=True)
    built = build_model(config_of(shape, is_tiny=True), device=CPU, dtype=torch.float32, switches=switches)
    setting.dtype = torch.float32
    job = Job(2, 5, 4)
    engine = make_engine(setting, built, job)
    torch.manual_seed(1)
    requests = add_requests(engine, job)
    while engine.has_work():
        engine.step()
    return [request.output_token_ids for request in requests]


def test_a_model_computes_the_same_whatever_is_switched_off() -> None:
    for shape in (LLAMA_8B, QWEN3_06B):
        everything = tokens_of(shape, EVERYTHING)
        assert [len(tokens) for tokens in everything] == [4, 4]
        assert tokens_of(shape, EVERYTHING._replace(is_patched=False)) == everything


def test_one_model_is_held_at_a_time_and_made_once() -> None:
    shelf = Setting(CPU, is_tiny=True).shelf
    built = shelf.get(LLAMA_8B, is_tiny=True)
    assert any(isinstance(module, FusedLayer) for module in built.model.modules())
    assert shelf.get(LLAMA_8B, is_tiny=True, switches=EVERYTHING._replace(looks_ahead=False)) is built
    other = shelf.get(LLAMA_8B, is_tiny=True, switches=EVERYTHING._replace(is_patched=False))
    assert not any(isinstance(module, FusedLayer) for module in other.model.modules())
    assert shelf.get(LLAMA_8B, is_tiny=True) is not built
