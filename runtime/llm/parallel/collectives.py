"""What the processes that share a model tell one another in a forward: sums of products, and logits.

Layers know nothing of it: hooks stand behind those whose outputs are partial. NCCL on CUDA, gloo on a CPU.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch._C._distributed_c10d import FileStore
from torch.nn.functional import pad

from runtime.llm.adapters.places import find_places
from runtime.llm.parallel.cut import Share
from runtime.llm.parallel.division import Division

_TIMEOUT = timedelta(minutes=10)


def join(rendezvous: Path, share: Share, device: torch.device) -> None:
    """Blocks until all have joined; once in a process. `rendezvous` is a file that nobody else writes."""
    is_cuda = device.type == "cuda"
    distributed.init_process_group(
        "nccl" if is_cuda else "gloo",
        store=FileStore(str(rendezvous), share.size),
        rank=share.rank,
        world_size=share.size,
        timeout=_TIMEOUT,
        device_id=device if is_cuda else None,
    )


def leave() -> None:
    """When the others are gone already; NCCL would wait for them, and a process on CUDA is at its end anyway."""
    if distributed.get_backend() == "gloo":
        distributed.destroy_process_group()


def connect(model: Any, division: Division) -> None:
    """`model` is loaded, its layers fused or not. From now on every process must compute the same forwards."""
    if division.share.size == 1:
        return
    for place in find_places(model, division.summed_linears).values():
        place.linear.register_forward_hook(_sum)
    for path in division.summed_experts:
        model.get_submodule(path).register_forward_hook(_sum)
    model.get_submodule(division.head).register_forward_hook(_Gathering(division.share, division.vocab_size))


def _sum(module: nn.Module, arguments: tuple[torch.Tensor, ...], outputs: torch.Tensor) -> None:
    distributed.all_reduce(outputs)


class _Gathering:
    """All logits for rank 0; the others keep their own, which nobody reads."""

    def __init__(self, share: Share, vocab_size: int) -> None:
        self._share = share
        self._sizes = [len(Share(rank, share.size).of(vocab_size)) for rank in range(share.size)]

    def __call__(
        self, module: nn.Module, arguments: tuple[torch.Tensor, ...], logits: torch.Tensor
    ) -> torch.Tensor | None:
        # Pieces of one exchange are of one size; a vocabulary may not be divisible.
        own = pad(logits, (0, max(self._sizes) - logits.shape[-1])).contiguous()
        if self._share.rank:
            distributed.gather(own, dst=0)
            return None
        pieces = [torch.empty_like(own) for _ in self._sizes]
        distributed.gather(own, pieces, dst=0)
        return torch.cat([piece[..., :size] for piece, size in zip(pieces, self._sizes, strict=True)], dim=-1)
