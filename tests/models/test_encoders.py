import json
from typing import Any

import pytest
import torch
import transformers

from models.encoders import ENCODERS, is_encoder, read_encoder
from models.refusal import ModelRefused, RefusalReason

SHAPE = {
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 40,
    "vocab_size": 50,
}
DISTILBERT = {"dim": 8, "hidden_dim": 16, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 40, "vocab_size": 50}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}


def tensors_of(model_type: str, **settings: Any) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """config.json and tensors as transformers itself makes them."""
    shape = DISTILBERT if model_type == "distilbert" else SHAPE
    config = transformers.CONFIG_MAPPING[model_type](**shape, **TOKENS, **settings)
    auto = transformers.AutoModelForSequenceClassification if "num_labels" in settings else transformers.AutoModel
    with torch.device("meta"):
        model = auto.from_config(config)
    stated = json.loads(json.dumps(config.to_dict())) | {"architectures": [type(model).__name__]}
    return stated, {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("model_type", ENCODERS)
def test_the_expected_tensors_are_those_of_transformers(model_type: str) -> None:
    config, tensors = tensors_of(model_type)
    assert is_encoder(config)
    found = read_encoder(config)
    expected = found.encoder.layouts()[0]
    assert {name: shape for name, shape in tensors.items() if not name.startswith("pooler.")} == expected
    assert (found.architecture, found.is_cross_encoder) == (config["architectures"][0], False)


@pytest.mark.parametrize("model_type", ENCODERS)
def test_those_of_a_cross_encoder_too(model_type: str) -> None:
    config, tensors = tensors_of(model_type, num_labels=1)
    found = read_encoder(config)
    encoder = found.encoder
    expected = {f"{encoder.prefix}{name}": shape for name, shape in encoder.layouts()[0].items()}
    assert tensors == expected | encoder.scoring_head()
    assert (found.architecture, found.is_cross_encoder) == (config["architectures"][0], True)


def test_positions_behind_the_padding_token_are_fewer() -> None:
    roberta, _ = tensors_of("roberta")
    assert read_encoder(roberta | {"pad_token_id": 1}).encoder.reach == 38
    bert, _ = tensors_of("bert")
    assert read_encoder(bert).encoder.reach == 40


def test_the_first_files_of_nomic_name_fields_and_tensors_otherwise() -> None:
    config = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_inner": 16, "n_positions": 64, "vocab_size": 50}
    found = read_encoder(config | {"model_type": "nomic_bert", "architectures": ["NomicBertModel"]}).encoder
    assert found.layouts()[1]["encoder.layers.0.attn.Wqkv.weight"] == (24, 8)
    assert found.reach == 64


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hidden_size": 9}, RefusalReason.INVALID_CONFIG),
        ({"hidden_size": -1}, RefusalReason.INVALID_CONFIG),
        ({"is_decoder": True}, RefusalReason.UNSUPPORTED_ATTENTION),
        ({"position_embedding_type": "relative_key"}, RefusalReason.UNSUPPORTED_ATTENTION),
        ({"architectures": ["Custom"]}, RefusalReason.INVALID_CONFIG),
        ({"architectures": ["BertForSequenceClassification"]}, RefusalReason.UNSUPPORTED_ARCHITECTURE),
    ],
)
def test_what_cannot_be_served_is_refused(change: dict[str, Any], reason: RefusalReason) -> None:
    config, _ = tensors_of("bert")
    with pytest.raises(ModelRefused) as refused:
        read_encoder({name: value for name, value in (config | change).items() if name != "id2label"})
    assert refused.value.reason == reason
