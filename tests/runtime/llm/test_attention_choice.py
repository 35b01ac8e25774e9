import subprocess
import sys

import msgspec
import pytest
import torch

from models.info import AttentionInfo
from runtime.llm import attention_choice, attention_flash
from runtime.llm.attention_choice import choose_attention
from runtime.llm.attention_gather import GatherAttention
from runtime.settings import AttentionBackend
from tests.fakes.attention_requests import SHAPE
from tests.fakes.native import needs_native

CPU = torch.device("cpu")


def choose(
    device: torch.device,
    backend: AttentionBackend = "auto",
    shape: AttentionInfo = SHAPE,
    dtype: torch.dtype = torch.float32,
) -> str:
    attention = choose_attention(shape, num_blocks=2, block_size=4, dtype=dtype, device=device, backend=backend)
    assert isinstance(attention, GatherAttention)
    return type(attention).__name__


def test_a_cpu_gathers() -> None:
    assert choose(CPU) == "GatherAttention"


@needs_native
def test_a_cpu_computes_bfloat16_in_c_unless_that_is_switched_off() -> None:
    assert choose(CPU, dtype=torch.bfloat16) == "NativeAttention"
    assert choose(CPU, "gather", dtype=torch.bfloat16) == "GatherAttention"


def test_keys_and_values_are_stored_in_8_bit_floats_where_that_is_said() -> None:
    for is_fp8, dtype in ((False, torch.float32), (True, torch.float8_e4m3fn)):
        attention = choose_attention(
            SHAPE, num_blocks=2, block_size=4, dtype=torch.float32, device=CPU, backend="auto", is_fp8=is_fp8
        )
        assert attention.caches[0].dtype is dtype


def test_a_worker_on_a_cpu_never_imports_triton_for_its_attention() -> None:
    program = "import sys, runtime.llm.attention_choice; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(("function", "chosen"), [(None, "TritonAttention"), (max, "FlashAttention")])
def test_a_package_for_prompts_is_taken_where_it_is_found(
    function: object, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_choice, "_suits_triton", lambda *arguments: True)
    monkeypatch.setattr(attention_flash, "find_flash", lambda *arguments, **options: function)
    assert choose(CPU) == chosen
    assert choose(CPU, "gather") == "GatherAttention"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_has_kernels_unless_they_are_switched_off_or_heads_are_too_large() -> None:
    cuda = torch.device("cuda")
    assert choose(cuda) == "TritonAttention"
    assert choose(cuda, "gather") == "GatherAttention"
    wide = AttentionInfo(num_layers=1, num_heads=2, num_kv_heads=1, head_size=576, value_head_size=512)
    assert choose(cuda, shape=wide) == "GatherAttention"
    latents = msgspec.structs.replace(wide, has_values_in_keys=True)
    assert choose(cuda, shape=latents) == "TritonAttention"
    assert choose(cuda, shape=msgspec.structs.replace(latents, head_size=768)) == "GatherAttention"
