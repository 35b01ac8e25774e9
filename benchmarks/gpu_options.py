"""What the GPU benchmark is told: its parts in their order, how long each may take, and what is done already. Pure."""

import msgspec

BUDGETS_S = {
    "limits": 20.0,
    "checks": 80.0,
    "products": 25.0,
    "attention": 30.0,
    "sampling": 25.0,
    "grammar": 15.0,
    "steps-qwen3-0.6b": 60.0,
    "load-qwen3-0.6b": 35.0,
    "steps-llama-8b": 120.0,
    "adapters-llama-8b": 30.0,
    "wake-llama-8b": 25.0,
    "peer-qwen3-0.6b": 45.0,
    "peer-llama-8b": 60.0,
}
"""Seconds by part. Rows that are not begun by then are skipped; most parts take less."""


class Options(msgspec.Struct, kw_only=True):
    device: str
    is_tiny: bool
    parts: list[str]
    """Still to do, the first of them perhaps in parts."""
    budgets_s: dict[str, float]
    ends_at: float
    """Seconds since the epoch; no row begins later."""
    done: list[str] = []
    """PART/ROW: not to be done again."""
    used_s: float = 0.0
    """Of the first part's budget, by processes that have ended."""
