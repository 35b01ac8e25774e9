"""What LoRA adapters cost a step of decodes: none, one for all rows, and a different one for each of 32 rows.

Adapters are of rank 16, for every linear layer; one is written to the temporary directory and loaded under as many
names as there are rows, the way a worker loads them.
"""

import json
import tempfile
from functools import partial
from pathlib import Path

from benchmarks import gpu_rooflines
from benchmarks.gpu_engines import decode, decode_job, make_engine
from benchmarks.gpu_models import config_of
from benchmarks.gpu_rows import Figure, RowSpec
from benchmarks.gpu_setting import Setting
from models.addon_config import ADDON_CONFIG
from models.addons import inspect_addon
from models.sizing import adapter_bytes
from runtime.llm.adapters.load import AdapterSupport, support_adapters
from runtime.llm.request import Adapter
from runtime.protocol import LoadAdapter
from runtime.settings import LlmSettings

RANK = 16
NUM_REQUESTS = 32
CONTEXT = 1000


def rows(setting: Setting, shape: str) -> list[RowSpec]:
    addons = Addons(setting, shape)
    return [
        RowSpec(f"step.b{NUM_REQUESTS}.{number}_adapters", partial(addons.measure, number))
        for number in (0, 1, NUM_REQUESTS)
    ]


class Addons:
    """One model with room for adapters, and those that it has got so far."""

    def __init__(self, setting: Setting, shape: str) -> None:
        self._setting = setting
        self._shape = shape
        self._directory: tempfile.TemporaryDirectory[str] | None = None  # removed when nobody holds this
        self._support: AdapterSupport | None = None
        self._loaded: list[Adapter] = []
        self._step_s_without = 0.0

    def measure(self, num_adapters: int) -> Figure:
        setting = self._setting
        built = setting.shelf.get(self._shape, is_tiny=setting.is_tiny)
        support = self._load(num_adapters)
        num_steps = 2 if setting.is_tiny else 24
        job = decode_job(NUM_REQUESTS, 8 if setting.is_tiny else CONTEXT, num_steps)
        engine = make_engine(setting, built, job, support.adaptation)
        decoding = decode(engine, job, num_steps, self._loaded[:num_adapters] or [None])
        best_s = gpu_rooflines.decode_s(
            setting.limits, built.info, setting.dtype_name, NUM_REQUESTS, round(decoding.num_tokens)
        )
        if best_s is not None and setting.limits is not None:
            read = num_adapters * adapter_bytes(built.info, setting.dtype_name, RANK)
            best_s += read / setting.limits.bytes_per_s
        conditions: dict[str, object] = {"rank": RANK}
        if not num_adapters:
            self._step_s_without = decoding.step_s
        elif self._step_s_without:
            conditions["of_none"] = round(decoding.step_s / self._step_s_without, 3)
        return Figure(decoding.step_s * 1000, "ms", None if best_s is None else best_s * 1000, conditions=conditions)

    def _load(self, num_adapters: int) -> AdapterSupport:
        """The model's folder has a config and no weights: nothing that follows reads those."""
        setting = self._setting
        built = setting.shelf.get(self._shape, is_tiny=setting.is_tiny)
        self._directory = self._directory or tempfile.TemporaryDirectory()
        directory = Path(self._directory.name)
        model_dir = directory / "model"
        if self._support is None:
            model_dir.mkdir(exist_ok=True)
            (model_dir / "config.json").write_text(json.dumps(config_of(self._shape, is_tiny=setting.is_tiny)))
            self._support = support_adapters(built.model, model_dir, built.info, self._settings(), built.kernels.lora)
        if num_adapters > len(self._loaded):
            self._loaded += self._read(self._support, directory, num_adapters)
        return self._support

    def _read(self, support: AdapterSupport, directory: Path, num_adapters: int) -> list[Adapter]:
        from tests.fakes.tiny_addon import build_tiny_addon

        setting = self._setting
        built = setting.shelf.get(self._shape, is_tiny=setting.is_tiny)
        model_dir = directory / "model"
        addon = build_tiny_addon(directory / "addon", model_dir, rank=RANK, alpha=0.1, dtype=setting.dtype_name)
        assert (addon / ADDON_CONFIG).exists()
        known = inspect_addon(addon, model_dir, built.info).file_sha256
        names = [str(index) for index in range(len(self._loaded), num_adapters)]
        for adapter in names:
            support.shelf.load(LoadAdapter(adapter=adapter, directory=str(addon), file_sha256=known)).result()
        return [support.shelf.find(name) for name in names]

    def _settings(self) -> LlmSettings:
        return LlmSettings(
            device=str(self._setting.device),
            memory_budget_bytes=0,  # nobody asks
            dtype=self._setting.dtype_name,
            max_context_length=2048,
            max_num_adapters=NUM_REQUESTS,
            max_adapter_rank=RANK,
        )
