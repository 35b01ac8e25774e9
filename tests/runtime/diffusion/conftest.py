"""Tiny image models, each built and loaded once, and an engine over them that is driven without threads or sockets."""

import io
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.inspection import inspect_model
from runtime.diffusion.load import load_diffusion
from runtime.diffusion.request import DiffusionOutput
from runtime.engine import LoadedEngine, LoadRefused, RequestRefused
from runtime.message import FailureCode
from runtime.protocol import Load, LoadAdapter
from runtime.settings import DiffusionSettings
from runtime.tasks.images import Draw, Drawing, Drawn
from tests.fakes.tiny_diffusion import CONTROL_NET, build_tiny_flux, build_tiny_lora, build_tiny_sdxl

BUDGET_BYTES = 8 * 1024**3
_ids = count()


class Studio:
    """A loaded engine, and its frontend."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory = directory
        self.loaded = load(directory, **settings)
        self.engine, self.frontend = self.loaded.engine, self.loaded.frontend

    def submit(self, **fields: Any) -> str:
        stated: dict[str, Any] = {"request_id": f"r{next(_ids)}", "prompt": "a red fox", "seeds": [1], "num_steps": 2}
        draw = Draw(**stated | fields)
        self.engine.add(self.frontend.prepare(draw))
        return draw.request_id

    def step(self) -> list[Drawn | Drawing]:
        outputs: list[DiffusionOutput] = self.engine.step()
        rendered = self.frontend.render(outputs)
        assert not rendered.failures, rendered.failures
        return [piece for piece in rendered.pieces if isinstance(piece, Drawn | Drawing)]

    def run(self) -> dict[str, list[np.ndarray[Any, Any]]]:
        """Pixels of all that is made, by request, in the order of the seeds."""
        pieces = []
        while self.engine.has_work():
            pieces += [piece for piece in self.step() if isinstance(piece, Drawn)]
        made: dict[str, list[np.ndarray[Any, Any]]] = {}
        for piece in sorted(pieces, key=lambda piece: piece.index):
            made.setdefault(piece.request_id, []).append(pixels(piece.data))
        return made

    def draw(self, **fields: Any) -> list[np.ndarray[Any, Any]]:
        request_id = self.submit(**fields)
        return self.run()[request_id]

    def load_adapter(self, name: str, directory: Path) -> None:
        hashes = {file.name: "unchecked" for file in directory.iterdir()}
        load = LoadAdapter(adapter=name, directory=str(directory), file_sha256=hashes)
        self.frontend.load_adapter(load).result(timeout=30)


def load(directory: Path, **settings: Any) -> LoadedEngine:
    fields: dict[str, Any] = {
        "device": "cpu",
        "memory_budget_bytes": BUDGET_BYTES,
        "dtype": "float32",
        "num_threads": 1,
    } | settings
    info = inspect_model(directory)
    message = Load(model_dir=str(directory), file_sha256=info.file_sha256, settings=DiffusionSettings(**fields))
    return load_diffusion(message, lambda stage, fraction: None)


def load_message(directory: Path, **settings: Any) -> Load:
    fields: dict[str, Any] = {
        "device": "cpu",
        "memory_budget_bytes": BUDGET_BYTES,
        "dtype": "float32",
        "num_threads": 1,
    } | settings
    return Load(
        model_dir=str(directory),
        file_sha256=inspect_model(directory).file_sha256,
        settings=DiffusionSettings(**fields),
    )


def load_refusal_of(load: Load) -> LoadRefused:
    with pytest.raises(LoadRefused) as refused:
        load_diffusion(load, lambda stage, fraction: None)
    assert load.model_dir not in refused.value.message
    return refused.value


def align_adapter(pipeline: Any) -> None:
    """The same numbers, laid as ours are: how a CPU rounds a product depends on where in memory a matrix begins, and on
    whether it could be trained. peft leaves an addon's where they lie in the file, and trainable."""
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            for name, parameter in part.named_parameters():
                if "lora_" in name:
                    parameter.data = parameter.data.clone()
                    parameter.requires_grad_(False)


def refusal_of(studio: Studio, **fields: Any) -> RequestRefused:
    with pytest.raises(RequestRefused) as refused:
        studio.submit(**fields)
    assert refused.value.code is FailureCode.INVALID
    return refused.value


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)))


def picture(seed: int = 0, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """Smooth colours, like a photograph's."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def mask(size: tuple[int, int] = (64, 64)) -> Image.Image:
    """The right half is to be painted anew."""
    white = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    white[:, size[0] // 2 :] = 255
    return Image.fromarray(white)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def sdxl_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_sdxl(tmp_path_factory.mktemp("sdxl"), control_nets=[CONTROL_NET], has_safety_checker=True)


@pytest.fixture
def copy(sdxl_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sdxl_dir, tmp_path / "copy"))


@pytest.fixture(scope="session")
def flux_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_flux(tmp_path_factory.mktemp("flux"))


@pytest.fixture(scope="session")
def lora_dir(tmp_path_factory: pytest.TempPathFactory, sdxl_dir: Path) -> Path:
    return build_tiny_lora(tmp_path_factory.mktemp("lora"), sdxl_dir)


@pytest.fixture(scope="session")
def kohya_lora_dir(tmp_path_factory: pytest.TempPathFactory, sdxl_dir: Path) -> Path:
    """In another layout, with an alpha, and for a text encoder too."""
    return build_tiny_lora(tmp_path_factory.mktemp("kohya"), sdxl_dir, alpha=2.0, adapts_text=True, seed=5)


@pytest.fixture(scope="session")
def flux_lora_dir(tmp_path_factory: pytest.TempPathFactory, flux_dir: Path) -> Path:
    return build_tiny_lora(tmp_path_factory.mktemp("flux-lora"), flux_dir, base="flux")


@pytest.fixture(scope="session")
def sdxl_studio(sdxl_dir: Path) -> Iterator[Studio]:
    studio = Studio(sdxl_dir, max_num_adapters=4)
    yield studio
    studio.frontend.close()


@pytest.fixture(scope="session")
def flux_studio(flux_dir: Path) -> Iterator[Studio]:
    studio = Studio(flux_dir, max_num_adapters=4)
    yield studio
    studio.frontend.close()


@pytest.fixture
def sdxl(sdxl_studio: Studio) -> Iterator[Studio]:
    """With nothing to do, before and after."""
    yield sdxl_studio
    assert not sdxl_studio.engine.has_work()


@pytest.fixture
def flux(flux_studio: Studio) -> Iterator[Studio]:
    yield flux_studio
    assert not flux_studio.engine.has_work()
