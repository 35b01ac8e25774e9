"""The part of a language model behind its decoder: from hidden states to logits, for the rows that are asked for.

The model's own code does it, scaling and soft-capping included; only its decoder is stood in for, by what it has
computed already. So logits can be had of as many rows at a time as there is memory for.
"""

from typing import Any

import torch


class LanguageHead:
    """`model` is a `…ForCausalLM`; only the engine's thread may use it."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._decoder_name: str = model.base_model_prefix

    def logits(self, decoded: Any, rows: torch.Tensor) -> torch.Tensor:
        """[rows, vocabulary]; `decoded` is what the decoder returned for one flattened batch."""
        decoder = getattr(self._model, self._decoder_name)
        setattr(self._model, self._decoder_name, _Decoded(decoded))
        try:
            logits: torch.Tensor = self._model(input_ids=None, use_cache=False, logits_to_keep=rows).logits[0]
        finally:
            setattr(self._model, self._decoder_name, decoder)
        return logits


class _Decoded(torch.nn.Module):
    """Stands where the decoder was."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self._output = output

    def forward(self, *arguments: object, **options: object) -> Any:
        return self._output
