import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.info import AttentionInfo
from models.llm_folder import inspect_llm
from models.refusal import ModelRefused, RefusalReason
from tests.fakes.tiny_llm import Architecture, build_tiny_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"), "llama")


@pytest.fixture
def model(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def refusal(directory: Path) -> ModelRefused:
    with pytest.raises(ModelRefused) as refused:
        inspect_llm(directory)
    assert str(directory) not in refused.value.message
    return refused.value


def edit_json(path: Path, change: dict[str, Any], drop: tuple[str, ...] = ()) -> None:
    value = json.loads(path.read_text()) | change
    path.write_text(json.dumps({name: field for name, field in value.items() if name not in drop}))


def test_a_folder_that_transformers_saved_is_described(tiny: Path) -> None:
    info = inspect_llm(tiny)
    assert (info.architecture, info.model_type, info.dtype) == ("LlamaForCausalLM", "llama", "float32")
    assert info.attention == AttentionInfo(num_layers=2, num_heads=4, num_kv_heads=2, head_size=16, value_head_size=16)
    assert (info.vocab_size, info.hidden_size, info.intermediate_size) == (320, 64, 128)
    # Embedding and head, two layers of attention (two full, two half-width projections), MLP and norms, a last norm.
    assert info.num_parameters == 2 * 320 * 64 + 2 * (3 * 64 * 64 + 3 * 64 * 128 + 2 * 64) + 64
    assert info.weight_bytes == 4 * info.num_parameters
    assert not info.tied_embeddings
    assert info.max_context_length == 512
    assert info.has_chat_template
    assert info.eos_token_ids == [1]
    assert info.default_sampling == {"temperature": 0.7, "top_p": 0.9, "top_k": 20.0}
    assert info.warnings == []
    assert info.file_sha256 == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(tiny.iterdir())
    }


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_tiny_model_is_accepted(tmp_path: Path, architecture: Architecture, dtype: str) -> None:
    info = inspect_llm(build_tiny_model(tmp_path, architecture, dtype=dtype))
    assert info.dtype == dtype
    assert info.tied_embeddings == (architecture == "qwen2")
    assert info.attention.sliding_window == (16 if architecture == "mistral" else None)


def test_configs_of_transformers_4_and_5_say_the_same(tiny: Path, model: Path) -> None:
    old_style = {"torch_dtype": "float32", "rope_theta": 10000.0, "rope_scaling": None}
    edit_json(model / "config.json", old_style, drop=("dtype", "rope_parameters"))
    template = (model / "chat_template.jinja").read_text()
    (model / "chat_template.jinja").unlink()
    edit_json(model / "tokenizer_config.json", {"chat_template": template})
    new, old = inspect_llm(tiny), inspect_llm(model)
    assert [getattr(new, name) for name in new.__struct_fields__ if name != "file_sha256"] == [
        getattr(old, name) for name in old.__struct_fields__ if name != "file_sha256"
    ]
    assert sorted(old.file_sha256) == sorted(new.file_sha256.keys() - {"chat_template.jinja"})


def test_the_generation_config_wins_over_the_config(model: Path) -> None:
    edit_json(model / "generation_config.json", {"eos_token_id": [5, 1]})
    assert inspect_llm(model).eos_token_ids == [5, 1]
    (model / "generation_config.json").unlink()
    info = inspect_llm(model)
    assert info.eos_token_ids == [1]
    assert info.default_sampling == {}


def test_a_model_that_never_ends_by_itself_is_accepted_with_a_warning(model: Path) -> None:
    edit_json(model / "generation_config.json", {}, drop=("eos_token_id",))
    edit_json(model / "config.json", {"eos_token_id": None})
    info = inspect_llm(model)
    assert info.eos_token_ids == []
    assert "end-of-sequence" in info.warnings[0]


@pytest.mark.parametrize("token_id", [-1, 320, 2**80])
def test_an_end_token_outside_the_vocabulary_is_refused(model: Path, token_id: int) -> None:
    edit_json(model / "generation_config.json", {"eos_token_id": [1, token_id]})
    assert refusal(model).reason == RefusalReason.INVALID_CONFIG


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": -1},
        {"top_p": 1.5},
        {"top_k": 2.5},
        {"min_p": "x"},
        {"typical_p": 0},
        {"repetition_penalty": 0},
        {"repetition_penalty": 1e9},
    ],
)
def test_senseless_default_sampling_is_refused(model: Path, change: dict[str, Any]) -> None:
    edit_json(model / "generation_config.json", change)
    refused = refusal(model)
    assert (refused.reason, refused.file) == (RefusalReason.INVALID_CONFIG, "generation_config.json")
    assert next(iter(change)) in refused.message


def test_every_sampling_rule_of_the_generation_config_becomes_a_default(model: Path) -> None:
    edit_json(model / "generation_config.json", {"repetition_penalty": 1.1, "typical_p": 0.95, "min_p": 0.1})
    info = inspect_llm(model)
    assert info.default_sampling.items() >= {("repetition_penalty", 1.1), ("typical_p", 0.95), ("min_p", 0.1)}
    assert info.warnings == []


def test_a_tokenizer_larger_than_the_model_is_refused(model: Path) -> None:
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][0], "id": 320, "content": "<|new|>"})
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    refused = refusal(model)
    assert (refused.reason, refused.file) == (RefusalReason.INVALID_TOKENIZER, "tokenizer.json")


def test_a_model_wider_than_its_tokenizer_is_accepted(tmp_path: Path) -> None:
    assert inspect_llm(build_tiny_model(tmp_path, "llama", vocab_size=384)).vocab_size == 384


def test_a_sentencepiece_model_alone_is_refused(model: Path) -> None:
    (model / "tokenizer.json").rename(model / "tokenizer.model")
    refused = refusal(model)
    assert (refused.reason, refused.file) == (RefusalReason.MISSING_FILE, "tokenizer.json")


@pytest.mark.parametrize("suffix", ["bin", "pt", "pth", "pkl", "pickle", "ckpt", "npy", "npz", "BIN"])
def test_pickles_are_refused_by_name_and_never_opened(model: Path, suffix: str) -> None:
    canary = model.parent / "canary"
    pickle = f"cos\nsystem\n(S'touch {canary}'\ntR.".encode()
    (model / f"pytorch_model.{suffix}").write_bytes(pickle)
    refused = refusal(model)
    assert (refused.reason, refused.file) == (RefusalReason.PICKLE, f"pytorch_model.{suffix}")
    assert not canary.exists()


def test_remote_code_is_reported_and_never_run(model: Path) -> None:
    canary = model.parent / "canary"
    for name in ("modeling_llama.py", "configuration_llama.py", "tokenization_llama.py", "__init__.py"):
        (model / name).write_text(f"open({str(canary)!r}, 'w')\n")
    edit_json(model / "config.json", {"auto_map": {"AutoModelForCausalLM": "modeling_llama.Model"}})
    edit_json(model / "tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["tokenization_llama.T", None]}})
    info = inspect_llm(model)
    assert not canary.exists()
    assert [warning.split(":")[0] for warning in info.warnings] == [
        "config.json",
        "tokenizer_config.json",
        "__init__.py, configuration_llama.py, modeling_llama.py and 1 more",
    ]
    assert not any(name.endswith(".py") for name in info.file_sha256)


def test_what_is_not_used_is_named(model: Path) -> None:
    (model / "original").mkdir()
    (model / "original" / "consolidated.00.pth").touch()
    shutil.copy(model / "model.safetensors", model / "consolidated.safetensors")
    (model / "README.md").touch()
    info = inspect_llm(model)
    assert info.warnings == [
        "consolidated.safetensors: not part of the checkpoint, ignored",
        "original: folders are ignored",
    ]
    assert "consolidated.safetensors" not in info.file_sha256


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "README.md"])
def test_a_link_out_of_the_folder_is_refused(model: Path, name: str) -> None:
    (model / name).unlink(missing_ok=True)
    (model / name).symlink_to("/etc/passwd")
    refused = refusal(model)
    assert (refused.reason, refused.file) == (RefusalReason.UNSAFE_FILE, name)


@pytest.mark.parametrize("tenth", range(10))
def test_truncated_weights_are_refused(model: Path, tenth: int) -> None:
    path = model / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * tenth // 10])
    refused = refusal(model)
    assert (refused.reason, refused.file) == (RefusalReason.CORRUPT_WEIGHTS, "model.safetensors")


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"\xff", b"[" * 100_000])
def test_malformed_json_is_refused_naming_its_file(model: Path, name: str, content: bytes) -> None:
    (model / name).write_bytes(content)
    refused = refusal(model)
    assert (refused.reason, refused.file) == (RefusalReason.MALFORMED_JSON, name)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(model: Path, name: str) -> None:
    (model / name).unlink()
    refused = refusal(model)
    assert (refused.reason, refused.file) == (RefusalReason.MISSING_FILE, name)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere").reason == RefusalReason.UNREADABLE
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file").reason == RefusalReason.UNREADABLE


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_mutation_is_accepted_or_refused_and_nothing_else(tiny: Path, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(shutil.copytree(tiny, Path(temporary) / "model"))
        for _ in range(data.draw(st.integers(1, 3))):
            path = directory / data.draw(st.sampled_from(sorted(path.name for path in tiny.iterdir())))
            if path.exists():
                _mutate(path, data)
        try:
            outcome: str = inspect_llm(directory).architecture
        except ModelRefused as refused:
            outcome = refused.message
        assert 0 < len(outcome) < 2000


def _mutate(path: Path, data: st.DataObject) -> None:
    content = path.read_bytes()
    match data.draw(st.sampled_from(["field", "cut", "overwrite", "insert", "delete"])):
        case "field" if path.suffix == ".json":
            try:
                value = json.loads(content)
                value[data.draw(st.sampled_from(sorted(value)))] = data.draw(JSON_VALUES)
            except (ValueError, TypeError, IndexError):  # an earlier mutation broke it
                return
            path.write_text(json.dumps(value))
        case "cut":
            path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        case "insert":
            position = data.draw(st.integers(0, min(len(content), 4000)))
            path.write_bytes(content[:position] + data.draw(st.binary(max_size=8)) + content[position:])
        case "delete":
            path.unlink()
        case _:
            position = data.draw(st.integers(0, min(len(content), 4000)))
            replacement = data.draw(st.binary(min_size=1, max_size=8))
            path.write_bytes(content[:position] + replacement + content[position + len(replacement) :])
