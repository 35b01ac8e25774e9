"""What FP8 costs in quality: perplexity of a text, and how often the likeliest next token stays the same.

`python -m benchmarks.fp8_quality [--model DIR] [--text FILE]` prints one JSON line: the model as it is; quantised by
our quantiser and converted back, as devices without products of 8-bit floats serve it; and with its tokens in 8 bits
as well, as devices that have them do. Without --text the built-in model is also judged by conversations of its kind
that it was not trained on, for it was made for nothing else.
"""

import argparse
import json
import math
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer

from models.builtin import EMBER_CHAT
from models.conversation import Conversation
from models.llm_folder import inspect_llm
from models.rendering import Renderer
from models.tokenizer_files import TOKENIZER
from runtime.llm.forward import Forward, TokenRow
from runtime.llm.fp8 import quantise_rows, rescale
from runtime.llm.linear import Linear
from runtime.quantiser.quantise import quantise
from scripts.ember_chat.corpus import Corpus
from tests.fakes.tiny_engine import BLOCK_SIZE, TinyModel

WINDOW = 512
"""Tokens that are seen at once."""
UNSEEN_SEED = 6_021_023
NUM_CONVERSATIONS = 64


class Quality(NamedTuple):
    perplexity: float
    agreement: float
    """Share of positions whose likeliest next token is the unquantised model's."""
    divergence: float
    """Mean Kullback-Leibler divergence from the unquantised model, in nats."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=EMBER_CHAT.directory)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--max-tokens", type=int, default=8192)
    options = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(options.model / TOKENIZER))
    readme = Path(__file__).parent.parent / "README.md"
    texts = {"text": _cut(tokenizer.encode((options.text or readme).read_text()).ids[: options.max_tokens])}
    if options.text is None and options.model == EMBER_CHAT.directory:
        texts["conversations"] = [tokenizer.encode(text, add_special_tokens=False).ids for text in _conversations()]
    found = {name: measure(options.model, windows) for name, windows in texts.items()}
    print(json.dumps({"benchmark": "fp8_quality", "model": options.model.name, **found}))


def measure(directory: Path, windows: list[list[int]]) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as work:
        quantised = _quantised(directory, Path(work))
        plain, converted = _load(directory), _load(quantised)
        reference = [_log_probabilities(plain, window) for window in windows]
        by_weights = [_log_probabilities(converted, window) for window in windows]
        _round_inputs(converted)
        by_both = [_log_probabilities(converted, window) for window in windows]
        sizes = [inspect_llm(each).weight_bytes for each in (directory, quantised)]
    rows = {"bf16": reference, "fp8_weights": by_weights, "fp8_weights_and_tokens": by_both}
    return {
        "num_tokens": sum(map(len, windows)),
        "weight_bytes": dict(zip(("bf16", "fp8"), sizes, strict=True)),
        **{name: _compare(windows, found, reference)._asdict() for name, found in rows.items()},
    }


def _cut(token_ids: list[int]) -> list[list[int]]:
    windows = [token_ids[start : start + WINDOW] for start in range(0, len(token_ids), WINDOW)]
    return [window for window in windows if len(window) > 1]


def _conversations() -> list[str]:
    drawn = Corpus(UNSEEN_SEED).draw(NUM_CONVERSATIONS)
    with Renderer(EMBER_CHAT.directory) as renderer:
        return [renderer.render(Conversation(messages=each.messages, tools=list(each.tools))) for each in drawn]


def _quantised(source: Path, target: Path) -> Path:
    info = inspect_llm(source)
    quantise(source, info.file_sha256, target, lambda num_bytes, total_bytes: None)
    for name in info.file_sha256:
        if not name.endswith(".safetensors") and not (target / name).exists():
            shutil.copy(source / name, target / name)
    return target


def _load(directory: Path) -> TinyModel:
    return TinyModel(directory, dtype=torch.bfloat16, max_context_length=WINDOW)


def _round_inputs(model: TinyModel) -> None:
    """Of every product whose weights are in 8 bits: all in layers, since routers and experts are not `Linear`."""
    decoder = getattr(model.model, model.model.base_model_prefix)
    for layer in decoder.modules():
        if isinstance(layer, Linear):
            layer.register_forward_pre_hook(_round)


def _round(layer: torch.nn.Module, arguments: tuple[torch.Tensor]) -> torch.Tensor:
    (inputs,) = arguments
    stored, scale = quantise_rows(inputs.flatten(0, -2))
    return rescale("row", stored.to(inputs.dtype), scale).view(inputs.shape)


def _log_probabilities(model: TinyModel, token_ids: list[int]) -> torch.Tensor:
    blocks = list(range(1, 2 + len(token_ids) // BLOCK_SIZE))
    computed = Forward(model.model, model.attention()).compute([TokenRow(token_ids, 0, blocks)])
    return computed.logits(list(range(len(token_ids)))).float().log_softmax(dim=-1)


def _compare(windows: list[list[int]], found: list[torch.Tensor], reference: list[torch.Tensor]) -> Quality:
    surprise = agreed = divergence = 0.0
    num_positions = 0
    for token_ids, own, theirs in zip(windows, found, reference, strict=True):
        surprise -= float(own[:-1].gather(1, torch.tensor(token_ids[1:]).unsqueeze(1)).sum())
        agreed += float((own.argmax(dim=-1) == theirs.argmax(dim=-1))[:-1].sum())
        divergence += float((theirs.exp() * (theirs - own))[:-1].sum())
        num_positions += len(token_ids) - 1
    return Quality(
        perplexity=round(math.exp(surprise / num_positions), 4),
        agreement=round(agreed / num_positions, 4),
        divergence=round(divergence / num_positions, 5),
    )


if __name__ == "__main__":
    main()
