"""Grammar masks: filled on the host by a few threads, then applied to logits on the device.

The grammar is JSON of a schema, over a tokenizer with as many tokens as the larger model's vocabulary.
"""

import tempfile
from functools import cache, partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.full_vocabulary import write_full_vocabulary
from benchmarks.gpu_models import LLAMA_8B, config_of
from benchmarks.gpu_rooflines import bound_s
from benchmarks.gpu_rows import Figure, RowSpec, Unavailable
from benchmarks.gpu_setting import Setting
from runtime.llm.masks import MaskFiller
from runtime.llm.request import Request, ScheduledRequest, TokenConstraint
from runtime.llm.sampling.adjustments import adjust
from runtime.llm.sampling.rows import SampledRow
from runtime.submission import SamplingParams

if TYPE_CHECKING:
    from runtime.llm.grammar.engine_tokenizer import GrammarTokenizer  # needs llguidance, which may be missing

BATCHES = (1, 32, 128)
_LARK = """start: %json {"type": "object", "properties": {"name": {"type": "string"}, "size": {"type": "integer"},
"tags": {"type": "array", "items": {"type": "string"}}}, "required": ["name", "size", "tags"]}
"""
_BEGINNING = '{"name": "'


def rows(setting: Setting, shape: str) -> list[RowSpec]:
    specs = [RowSpec("compile", partial(measure_compilation, setting))]
    specs += [RowSpec(f"fill.b{num_rows}", partial(measure_fill, setting, num_rows)) for num_rows in BATCHES]
    for num_rows in BATCHES:
        specs.append(RowSpec(f"apply.b{num_rows}", partial(measure_application, setting, num_rows)))
    specs.append(RowSpec("apply.b128.kernels_off", partial(measure_application, setting, 128, has_kernels=False)))
    return specs


def measure_compilation(setting: Setting) -> Figure:
    """Of one grammar, the tokenizer being there."""
    tokenizer = _tokenizer(_vocab_size(setting))
    began_at = perf_counter()
    _matcher(tokenizer)
    return Figure((perf_counter() - began_at) * 1000, "ms")


def measure_fill(setting: Setting, num_rows: int) -> Figure:
    """On the host, until the last mask is there; in a step the device computes meanwhile."""
    vocab_size = _vocab_size(setting)
    tokenizer = _tokenizer(vocab_size)
    filler = MaskFiller(vocab_size)
    scheduled = [_constrained(index, _matcher(tokenizer)) for index in range(num_rows)]

    def run() -> None:
        pending = filler.begin(scheduled)
        for row in scheduled:
            assert pending.of(row)[0] is not None, "a mask for every row"

    return Figure(setting.wall_time(run) * 1000, "ms")


def measure_application(setting: Setting, num_rows: int, *, has_kernels: bool = True) -> Figure:
    """From masks on the host to logits on the device."""
    vocab_size = _vocab_size(setting)
    kernels = setting.kernels.sampling if has_kernels else None
    if has_kernels and kernels is None and setting.is_cuda:
        raise Unavailable("needs triton")
    words = np.random.default_rng(0).integers(-(2**31), 2**31, (num_rows, -(-vocab_size // 32)), dtype=np.int32)
    rows = [SampledRow(SamplingParams(temperature=0), 0, 1, None, mask) for mask in words]
    logits = torch.randn(num_rows, vocab_size, device=setting.device)

    def run() -> None:
        with torch.inference_mode():
            adjust(logits, rows, kernels)

    duration_s = setting.wall_time(run, num_warm=2)
    best_s = bound_s(setting.limits, 2 * logits.nbytes + words.nbytes)
    return Figure(duration_s * 1000, "ms", None if best_s is None else best_s * 1000)


@cache
def _tokenizer(vocab_size: int) -> "GrammarTokenizer":
    from runtime.llm.grammar.engine_tokenizer import GrammarTokenizer
    from tests.fakes.tiny_llm import END_TOKEN_ID, VOCAB_SIZE, build_tiny_tokenizer

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        build_tiny_tokenizer().save_pretrained(directory)
        if vocab_size > VOCAB_SIZE:
            write_full_vocabulary(directory / "tokenizer.json", directory / "tokenizer.json", vocab_size)
        return GrammarTokenizer.load(directory, vocab_size, [END_TOKEN_ID])


def _matcher(tokenizer: "GrammarTokenizer") -> TokenConstraint:
    """That has taken the beginning of a sentence, where many tokens may come."""
    from runtime.llm.grammar.matcher import GrammarMatcher

    matcher = tokenizer.compile(_LARK)
    if matcher.is_error():
        raise RuntimeError(matcher.get_error())
    constraint = GrammarMatcher(matcher, tokenizer)
    for token_id in tokenizer.tokenizer.tokenize_str(_BEGINNING):
        constraint.accept(token_id)
    return constraint


def _constrained(index: int, constraint: TokenConstraint) -> ScheduledRequest:
    request = Request(
        request_id=str(index),
        prompt_token_ids=[5],
        sampling=SamplingParams(temperature=0),
        max_tokens=1,
        constraint=constraint,
    )
    return ScheduledRequest(request, 1, True)


def _vocab_size(setting: Setting) -> int:
    size: int = config_of(LLAMA_8B, is_tiny=setting.is_tiny)["vocab_size"]
    return size
