"""The token with the greatest logit, which on CPUs is looked for in C: torch's `max` does not use vectors for it."""

import torch

from runtime.llm.native import library


def greatest_tokens(logits: torch.Tensor) -> torch.Tensor:
    """[rows], int64, from [rows, vocabulary]; in C the first of several that are equal, NaN is passed over."""
    functions = library.load()
    is_for_c = logits.dtype is torch.bfloat16 and logits.device.type == "cpu" and logits.stride(-1) == 1
    if functions is None or not is_for_c:
        return logits.max(dim=-1).indices  # argmax takes four times as long on bfloat16
    num_rows, vocab_size = logits.shape
    tokens = torch.empty(num_rows, dtype=torch.int64)
    functions.find_greatest_of_rows(logits.data_ptr(), logits.stride(0), num_rows, vocab_size, tokens.data_ptr())
    return tokens
