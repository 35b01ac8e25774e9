"""Names and shapes of an image encoder's tensors: as they are called here, and as checkpoints call them.

Checkpoints of one model come with several prefixes, by the version of transformers that wrote them; here a tensor has
one name. Those of the text half are as if it stood alone.
"""

import math

Tensors = dict[str, tuple[int, ...]]

IGNORED_TENSORS = r"vision\.embeddings\.position_ids"
"""What old checkpoints store of an encoder although it can be computed, as a pattern."""

# Prefixes of tensors as they are stored, by old and new checkpoints, and what they are called here. The first fits.
_PREFIXES: dict[str, list[tuple[str, str]]] = {
    "clip": [
        ("language_model.model.", "model."),
        ("language_model.lm_head.", "lm_head."),
        ("model.language_model.", "model."),
        ("model.vision_tower.vision_model.", "vision."),
        ("model.vision_tower.", "vision."),
        ("vision_tower.vision_model.", "vision."),
        ("vision_tower.", "vision."),
        ("model.multi_modal_projector.", "projector."),
        ("multi_modal_projector.", "projector."),
    ],
    "qwen2_vl": [
        ("model.language_model.", "model."),
        ("model.visual.", "vision."),
        ("visual.", "vision."),
    ],
}


def canonical_name(encoder: str, stored: str) -> str:
    """What a stored tensor is called here: `model.…` and `lm_head.…` as in the text half alone, `vision.…` …"""
    for prefix, replacement in _PREFIXES[encoder]:
        if stored.startswith(prefix):
            return replacement + stored.removeprefix(prefix)
    return stored


def clip_tensors(*, hidden: int, inner: int, patch: int, num_patches: int, num_layers: int) -> Tensors:
    tensors: Tensors = {
        "vision.embeddings.class_embedding": (hidden,),
        "vision.embeddings.patch_embedding.weight": (hidden, 3, patch, patch),
        "vision.embeddings.position_embedding.weight": (num_patches + 1, hidden),
        **_with_bias("vision.pre_layrnorm", hidden),
        **_with_bias("vision.post_layernorm", hidden),
    }
    for index in range(num_layers):
        layer = f"vision.encoder.layers.{index}."
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tensors |= _with_bias(f"{layer}self_attn.{projection}", hidden, hidden)
        tensors |= _with_bias(f"{layer}layer_norm1", hidden) | _with_bias(f"{layer}layer_norm2", hidden)
        tensors |= _with_bias(f"{layer}mlp.fc1", inner, hidden) | _with_bias(f"{layer}mlp.fc2", hidden, inner)
    return tensors


def projector_tensors(*, hidden: int, text_hidden: int, has_bias: bool) -> Tensors:
    first = _with_bias("projector.linear_1", text_hidden, hidden)
    second = _with_bias("projector.linear_2", text_hidden, text_hidden)
    return {name: shape for name, shape in (first | second).items() if has_bias or not name.endswith(".bias")}


def qwen2_vl_tensors(
    *, hidden: int, inner: int, text_hidden: int, patch: int, num_frames: int, merge: int, num_layers: int
) -> Tensors:
    merged = hidden * merge**2
    tensors: Tensors = {
        "vision.patch_embed.proj.weight": (hidden, 3, num_frames, patch, patch),
        **_with_bias("vision.merger.ln_q", hidden),
        **_with_bias("vision.merger.mlp.0", merged, merged),
        **_with_bias("vision.merger.mlp.2", text_hidden, merged),
    }
    for index in range(num_layers):
        layer = f"vision.blocks.{index}."
        tensors |= _with_bias(f"{layer}attn.qkv", 3 * hidden, hidden) | _with_bias(f"{layer}attn.proj", hidden, hidden)
        tensors |= _with_bias(f"{layer}norm1", hidden) | _with_bias(f"{layer}norm2", hidden)
        tensors |= _with_bias(f"{layer}mlp.fc1", inner, hidden) | _with_bias(f"{layer}mlp.fc2", hidden, inner)
    return tensors


def num_elements(tensors: Tensors) -> int:
    return sum(math.prod(shape) for shape in tensors.values())


def _with_bias(name: str, *shape: int) -> Tensors:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
