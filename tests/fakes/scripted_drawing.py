"""What the fake router's workers draw: for each seed a small picture of one colour, which says which seed it was."""

import io
from collections.abc import AsyncGenerator

from PIL import Image

from models.info import DiffusionInfo
from runtime.message import Used
from runtime.protocol import AnyPiece
from runtime.tasks.images import Draw, Drawing, Drawn

CONTROL_NET = "canny"
NUM_STEPS = 3
NUM_PROMPT_TOKENS = 9
FILTERED_PROMPT = "something that is filtered"

PAINTER = DiffusionInfo(
    architecture="StableDiffusionXLPipeline",
    model_type="sdxl",
    dtype="float32",
    num_parameters=1000,
    weight_bytes=4000,
    pipeline="sdxl",
    components={"unet": 4000},
    control_nets=[CONTROL_NET],
)
FLUX_PAINTER = DiffusionInfo(
    architecture="FluxPipeline",
    model_type="flux",
    dtype="float32",
    num_parameters=1000,
    weight_bytes=4000,
    pipeline="flux",
    components={"transformer": 4000},
)


def picture_of(seed: int, format: str = "png") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (seed % 256, 0, 0)).save(file, format)
    return file.getvalue()


async def draw(task: Draw) -> AsyncGenerator[list[AnyPiece], None]:
    """The last seed's picture comes first."""
    num_steps = task.num_steps or NUM_STEPS
    if task.reports_progress:
        for done in range(1, num_steps + 1):
            yield [Drawing(request_id=task.request_id, num_steps_done=done, num_steps=num_steps)]
    for index in reversed(range(len(task.seeds))):
        yield [
            Drawn(
                request_id=task.request_id,
                index=index,
                data=picture_of(task.seeds[index], task.format),
                is_filtered=task.checks_safety and task.prompt == FILTERED_PROMPT,
                is_last=index == 0,
                used=Used(num_prompt_tokens=0 if index else NUM_PROMPT_TOKENS, num_images=1),
            )
        ]
