"""Whether a language model can be divided among several devices: what its shape alone tells.

Attention is divided by heads, and no head is cut. Whether anybody has said how to divide an architecture's layers is
found out by a worker.
"""

from models.info import ModelInfo


def find_indivisible(info: ModelInfo, num_devices: int) -> str:
    """Why it cannot be; empty when it can."""
    if num_devices == 1:
        return ""
    if info.vision is not None:
        return "a model that reads images is served on one device"
    shape = info.attention
    if shape.num_heads % num_devices:
        return f"its {shape.num_heads} attention heads cannot be divided among {num_devices} devices"
    if shape.num_kv_heads % num_devices and num_devices % shape.num_kv_heads:
        return f"its {shape.num_kv_heads} KV heads cannot be divided among {num_devices} devices"
    return ""
