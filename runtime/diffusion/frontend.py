"""The socket thread's half of the image engine: a Draw becomes a DrawRequest, pixels become image files.

Nothing of a call reaches the engine unchecked. Remembers each call until its last picture; never touches the device.
"""

from concurrent.futures import Future

from models.info import DiffusionInfo
from runtime.adapter_shelf import AdapterShelf
from runtime.diffusion.encoding import encode_image
from runtime.diffusion.input_pictures import InputDecoder
from runtime.diffusion.limits import check_limits, refuse
from runtime.diffusion.request import ControlPicture, DiffusionOutput, DrawRequest, Failure, Finished, Progressed
from runtime.diffusion.schedulers import Schedulers
from runtime.engine import Frontend, Rendered, RequestRefused
from runtime.message import FailureCode, Used
from runtime.protocol import AnyPiece, Failed, LoadAdapter
from runtime.tasks.images import Draw, Drawing, Drawn, ImageFormat

SDXL_STEPS, SDXL_GUIDANCE = 30, 5.0
FLUX_STEPS, FLUX_GUIDANCE = 28, 3.5
DISTILLED_STEPS = 4


class DiffusionFrontend(Frontend[Draw, DrawRequest, DiffusionOutput]):
    task_types = (Draw,)

    def __init__(
        self, info: DiffusionInfo, max_pixels: int, schedulers: Schedulers, adapters: AdapterShelf, *, has_safety: bool
    ) -> None:
        self._info = info
        self._max_pixels = max_pixels
        self._schedulers = schedulers
        self._adapters = adapters
        self._has_safety = has_safety
        self._inputs = InputDecoder(info, max_pixels)
        self._formats: dict[str, ImageFormat] = {}
        """Of each call that goes on."""

    def prepare(self, task: Draw) -> DrawRequest:
        check_limits(task, self._info, max_pixels=self._max_pixels)
        if task.request_id in self._formats:
            raise RequestRefused(FailureCode.INVALID, "this request id is in use")
        if task.checks_safety and not self._has_safety:
            refuse("safety_check: this model has no safety checker in its folder", "safety_check")
        num_steps = self._num_steps(task)
        scheduler = self._scheduler(task)
        adapter = self._adapters.find(task.adapter) if task.adapter else None
        inputs = self._inputs.decode(task)
        control = None
        if task.control is not None and inputs.control is not None:
            stated = task.control
            control = ControlPicture(stated.name, inputs.control, stated.scale, stated.start, stated.end)
        request = DrawRequest(
            request_id=task.request_id,
            tenant=task.tenant,
            prompt=task.prompt,
            negative_prompt=task.negative_prompt,
            width=inputs.width,
            height=inputs.height,
            num_steps=num_steps,
            guidance_scale=self._guidance(task),
            seeds=list(task.seeds),
            scheduler=scheduler,
            image=inputs.image,
            strength=task.strength if inputs.image is not None else 1.0,
            mask=inputs.mask,
            control=control,
            adapter=adapter,
            adapter_scale=task.adapter_scale,
            checks_safety=task.checks_safety,
            reports_progress=task.reports_progress,
        )
        self._formats[task.request_id] = task.format
        return request

    def render(self, outputs: list[DiffusionOutput]) -> Rendered:
        pieces: list[AnyPiece] = []
        failures: list[Failed] = []
        for output in outputs:
            file_format = self._formats.get(output.request_id)
            if file_format is None:
                continue
            match output:
                case Progressed(request_id, num_steps_done, num_steps):
                    drawing = Drawing(request_id=request_id, num_steps_done=num_steps_done, num_steps=num_steps)
                    pieces.append(drawing)
                case Finished():
                    pieces.append(_drawn(output, file_format))
                    if output.is_last:
                        self.forget(output.request_id)
                case Failure():
                    failures.append(_failed(output))
                    self.forget(output.request_id)
        return Rendered(deltas=[], failures=failures, finished=[], pieces=pieces)

    def forget(self, request_id: str) -> None:
        self._formats.pop(request_id, None)

    def load_adapter(self, load: LoadAdapter) -> Future[None]:
        return self._adapters.load(load)

    def unload_adapter(self, adapter: str) -> None:
        self._adapters.unload(adapter)

    def close(self) -> None:
        self._adapters.close()
        self._inputs.close()

    def _num_steps(self, task: Draw) -> int:
        own = SDXL_STEPS if self._info.pipeline == "sdxl" else FLUX_STEPS
        num_steps = task.num_steps or (DISTILLED_STEPS if self._info.is_distilled else own)
        if task.image and int(num_steps * task.strength) < 1:
            refuse(f"strength: of {num_steps} steps not one is left to be painted", "strength")
        return num_steps

    def _guidance(self, task: Draw) -> float:
        """A FLUX model that was distilled has none, whatever is asked for: it was made without."""
        if self._info.is_distilled and (task.guidance_scale is None or self._info.pipeline == "flux"):
            return 0.0
        if task.guidance_scale is not None:
            return task.guidance_scale
        return SDXL_GUIDANCE if self._info.pipeline == "sdxl" else FLUX_GUIDANCE

    def _scheduler(self, task: Draw) -> str:
        if not task.scheduler:
            return ""
        known = self._schedulers.find(task.scheduler)
        if known is None:
            names = ", ".join(self._schedulers.names)
            refuse(f"sampler: {task.scheduler[:40]!r} is not served; these are: {names}", "sampler")
        return known


def _drawn(output: Finished, file_format: ImageFormat) -> Drawn:
    return Drawn(
        request_id=output.request_id,
        index=output.index,
        data=encode_image(output.pixels, file_format),
        is_filtered=output.is_filtered,
        is_last=output.is_last,
        used=Used(num_images=1),
    )


def _failed(output: Failure) -> Failed:
    if output.is_out_of_memory:
        message = "the device has too little memory for this picture: ask for a smaller one"
        return Failed(request_id=output.request_id, code=FailureCode.OVERLOADED, message=message)
    message = "the request failed in the engine"
    return Failed(request_id=output.request_id, code=FailureCode.INTERNAL, message=message)
