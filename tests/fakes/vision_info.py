"""A VisionInfo without a model behind it."""

from models.info import AreaSize, FixedSize, VisionInfo


def vision_info(size: FixedSize | AreaSize) -> VisionInfo:
    """Images are scaled to the nearest pixel, and their colours left alone."""
    return VisionInfo(
        encoder="clip",
        text_architecture="LlamaForCausalLM",
        text_model_type="llama",
        image_token_id=3,
        num_layers=1,
        hidden_size=8,
        intermediate_size=16,
        patch_size=4,
        size=size,
        resample=0,
        rescale_factor=1 / 255,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
