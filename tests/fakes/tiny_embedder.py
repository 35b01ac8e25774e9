"""Tiny random models that embed or rank, in the folders that sentence-transformers reads, made without that library.

Real checkpoints: transformers itself saves them, `modules.json` and its folders are as the published models have them.
Weights are drawn wide, so that texts get vectors far from each other and leaving anything out is seen.
"""

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

Embedder = Literal[
    "bert",  # mean of the tokens, length 1: like all-MiniLM
    "bge",  # first token, length 1
    "e5",  # XLM-RoBERTa, whose positions begin behind the padding's; `query: ` and `passage: `
    "nomic",  # rotary positions; `search_query: ` and `search_document: `
    "mpnet",  # relative positions, attention of its own
    "distilbert",
    "modernbert",
    "dense",  # as bert, with a layer behind the pooling
    "qwen3_embedding",  # a decoder: last token, an instruction for queries
    "e5_mistral",  # a decoder with BOS and EOS around the text
    "embeddinggemma",  # a decoder's layers without its causal mask, two dense layers
    "cross_encoder",  # scores pairs: BERT with a head of one label
    "roberta_cross_encoder",
    "qwen3_reranker",  # a language model that says yes or no
]
EMBEDDERS: tuple[Embedder, ...] = get_args(Embedder)
CROSS_ENCODERS: tuple[Embedder, ...] = ("cross_encoder", "roberta_cross_encoder")

CONTEXT_LENGTH = 64
"""Tokens of one text, special ones included."""
HIDDEN_SIZE = 48
SENTENCES = (
    "the hearth keeps the house warm while the kettle sings",
    "a kettle sings on the fire of a warm house",
    "tokens stream one by one from the engine to the client that asked",
    "snow",
    "where the fire is lit there is warmth, and when it is banked there is rest; whoever comes late finds embers",
    "",
)

_ENCODER_SHAPE: dict[str, Any] = {
    "hidden_size": HIDDEN_SIZE,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT_LENGTH,
}
_DECODER_SHAPE: dict[str, Any] = {**_ENCODER_SHAPE, "num_key_value_heads": 2, "max_position_embeddings": 128}
_ROBERTA = {"max_position_embeddings": CONTEXT_LENGTH + 2, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
_QWEN3 = {**_DECODER_SHAPE, "head_dim": 16, "tie_word_embeddings": True}
_WORDPIECE = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SENTENCEPIECE = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "yes", "no")
_POOLING_KEYS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
_QUERY_PROMPT = "Instruct: Find a text that answers the question\nQuery:"


class _Design(NamedTuple):
    class_name: str
    settings: MappingProxyType[str, Any]
    tokenizer: Literal["wordpiece", "sentencepiece", "chatml", "bracketed"]
    pooling: str | None = None
    """None: no modules of sentence-transformers."""
    is_normalized: bool = True
    dense: tuple[tuple[int, str], ...] = ()
    """Output sizes and activations."""
    prompts: MappingProxyType[str, str] = MappingProxyType({})
    default_prompt: str | None = None
    config_class: str = ""
    """As the model's class says, unless given."""


def _design(class_name: str, settings: dict[str, Any], tokenizer: Any, pooling: str | None, **rest: Any) -> _Design:
    prompts = MappingProxyType(rest.pop("prompts", {}))
    return _Design(class_name, MappingProxyType(settings), tokenizer, pooling, prompts=prompts, **rest)


_DESIGNS: dict[Embedder, _Design] = {
    "bert": _design("BertModel", _ENCODER_SHAPE, "wordpiece", "mean"),
    "bge": _design("BertModel", _ENCODER_SHAPE, "wordpiece", "cls"),
    "e5": _design(
        "XLMRobertaModel",
        {**_ENCODER_SHAPE, **_ROBERTA, "type_vocab_size": 1},
        "sentencepiece",
        "mean",
        prompts={"query": "query: ", "passage": "passage: "},
    ),
    "nomic": _design(
        "NomicBertModel",
        _ENCODER_SHAPE,
        "wordpiece",
        "mean",
        is_normalized=False,
        prompts={"query": "search_query: ", "document": "search_document: "},
        default_prompt="document",
    ),
    "mpnet": _design("MPNetModel", {**_ENCODER_SHAPE, **_ROBERTA}, "sentencepiece", "mean"),
    "distilbert": _design(
        "DistilBertModel",
        {"dim": HIDDEN_SIZE, "hidden_dim": 96, "n_layers": 2, "n_heads": 4, "max_position_embeddings": CONTEXT_LENGTH},
        "wordpiece",
        "max",
        is_normalized=False,
    ),
    "modernbert": _design(
        "ModernBertModel",
        {
            **_ENCODER_SHAPE,
            "num_hidden_layers": 4,
            "local_attention": 8,
            "pad_token_id": 0,
            "cls_token_id": 2,
            "sep_token_id": 3,
            "bos_token_id": 2,
            "eos_token_id": 3,
        },
        "wordpiece",
        "mean_sqrt_len_tokens",
        is_normalized=False,
    ),
    "dense": _design("BertModel", _ENCODER_SHAPE, "wordpiece", "mean", dense=((32, "Tanh"),)),
    "qwen3_embedding": _design(
        "Qwen3Model", _QWEN3, "chatml", "lasttoken", prompts={"query": _QUERY_PROMPT, "document": ""}
    ),
    "e5_mistral": _design(
        "MistralModel", {**_DECODER_SHAPE, "sliding_window": None}, "bracketed", "lasttoken", is_normalized=True
    ),
    "embeddinggemma": _design(
        "Gemma3TextModel",
        {
            **_DECODER_SHAPE,
            "num_hidden_layers": 3,
            "head_dim": 16,
            "num_key_value_heads": 1,
            "use_bidirectional_attention": True,
            "sliding_window": 17,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
            "query_pre_attn_scalar": 16,
        },
        "bracketed",
        "mean",
        dense=((64, "Identity"), (HIDDEN_SIZE, "Identity")),
        prompts={"query": "task: search result | query: ", "document": "title: none | text: "},
        config_class="Gemma3TextConfig",
    ),
    "cross_encoder": _design("BertForSequenceClassification", {**_ENCODER_SHAPE, "num_labels": 1}, "wordpiece", None),
    "roberta_cross_encoder": _design(
        "XLMRobertaForSequenceClassification",
        {**_ENCODER_SHAPE, **_ROBERTA, "type_vocab_size": 1, "num_labels": 1},
        "sentencepiece",
        None,
    ),
    "qwen3_reranker": _design("Qwen3ForCausalLM", {**_QWEN3, "max_position_embeddings": 512}, "chatml", None),
}


def build_tiny_embedder(
    directory: Path, embedder: Embedder, *, seed: int = 0, dtype: str = "float32", **config_overrides: Any
) -> Path:
    """Write a whole model folder; the same arguments give the same bytes."""
    design = _DESIGNS[embedder]
    tokenizer = _build_tokenizer(design)
    model_class = getattr(transformers, design.class_name)
    config_class = getattr(transformers, design.config_class) if design.config_class else model_class.config_class
    settings = {"vocab_size": len(tokenizer), **design.settings, **config_overrides}
    model = model_class(config_class(**settings))
    generator = torch.Generator().manual_seed(seed)
    _randomise(model, generator)
    model.to(getattr(torch, dtype)).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    if design.pooling is not None:
        _write_modules(directory, design, generator)
    return directory


def _randomise(model: torch.nn.Module, generator: torch.Generator) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            mean = 0.0 if "Gemma" in type(model).__name__ else mean  # its norms multiply by 1 + weight
            parameter.normal_(mean, 0.15, generator=generator)


def _write_modules(directory: Path, design: _Design, generator: torch.Generator) -> None:
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    size = HIDDEN_SIZE
    for output_size, activation in design.dense:
        path = f"{len(modules)}_Dense"
        modules.append(("Dense", path))
        weights = {
            "linear.weight": torch.empty(output_size, size).normal_(0, 0.2, generator=generator),
            "linear.bias": torch.empty(output_size).normal_(0, 0.2, generator=generator),
        }
        (directory / path).mkdir(exist_ok=True)
        save_file(weights, directory / path / "model.safetensors")
        activation_class = f"torch.nn.modules.{'linear' if activation == 'Identity' else 'activation'}.{activation}"
        config = {"in_features": size, "out_features": output_size, "bias": True}
        _write_json(directory / path / "config.json", {**config, "activation_function": activation_class})
        size = output_size
    if design.is_normalized:
        modules.append(("Normalize", f"{len(modules)}_Normalize"))
    modes = {key: mode == design.pooling for mode, key in _POOLING_KEYS.items()}
    pooling = {"word_embedding_dimension": HIDDEN_SIZE, **modes}
    (directory / "1_Pooling").mkdir(exist_ok=True)
    _write_json(directory / "1_Pooling" / "config.json", pooling | {"include_prompt": True})
    listed = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, path) in enumerate(modules)
    ]
    _write_json(directory / "modules.json", listed)
    _write_json(directory / "sentence_bert_config.json", {"max_seq_length": CONTEXT_LENGTH, "do_lower_case": False})
    _write_json(
        directory / "config_sentence_transformers.json",
        {
            "prompts": dict(design.prompts),
            "default_prompt_name": design.default_prompt,
            "similarity_fn_name": "cosine",
        },
    )


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2))


def _build_tokenizer(design: _Design) -> Any:
    match design.tokenizer:
        case "wordpiece":
            return _build_wordpiece()
        case "sentencepiece":
            return _build_sentencepiece()
        case _:
            return _build_byte_level(design)


def _corpus() -> list[str]:
    return [*SENTENCES, *(prompt for design in _DESIGNS.values() for prompt in design.prompts.values())]


def _words() -> list[str]:
    """Frequent enough to be tokens of their own."""
    return sorted({word for text in _corpus() for word in text.lower().split() if word.isalpha()})[::2]


def _letters() -> list[str]:
    return [chr(code) for code in range(ord("!"), ord("~") + 1) if not chr(code).isupper()]


def _build_wordpiece() -> Any:
    pad, unknown, first, separator, mask = _WORDPIECE
    letters = _letters()
    vocabulary = [*_WORDPIECE, *letters, *(f"##{letter}" for letter in letters), *_words()]
    numbered = {token: token_id for token_id, token in enumerate(dict.fromkeys(vocabulary))}
    tokenizer = Tokenizer(models.WordPiece(numbered, unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {separator}",
        pair=f"{first} $A {separator} $B:1 {separator}:1",
        special_tokens=[(token, _WORDPIECE.index(token)) for token in (first, separator)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        unk_token=unknown,
        cls_token=first,
        sep_token=separator,
        mask_token=mask,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        model_max_length=CONTEXT_LENGTH,
    )


def _build_sentencepiece() -> Any:
    begin, pad, end, unknown, mask = _SENTENCEPIECE
    pieces = [*_letters(), "▁", *(f"▁{word}" for word in _words())]
    scored = [(piece, 0.0) for piece in _SENTENCEPIECE] + [(piece, -10.0 / len(piece)) for piece in pieces]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=_SENTENCEPIECE.index(unknown)))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} {end} $B {end}",
        special_tokens=[(token, _SENTENCEPIECE.index(token)) for token in (begin, end)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=begin,
        pad_token=pad,
        eos_token=end,
        unk_token=unknown,
        cls_token=begin,
        sep_token=end,
        mask_token=mask,
        model_max_length=CONTEXT_LENGTH,
    )


def _build_byte_level(design: _Design) -> Any:
    """A decoder's: with the marks of ChatML, and a text ends with EOS where it is to be embedded."""
    end = _CHATML[0]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=list(_CHATML),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    ends = {"chatml": f"$A {end}", "bracketed": f"{_CHATML[1]} $A {end}"}[design.tokenizer]
    if design.pooling is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=ends, special_tokens=[(token, _CHATML.index(token)) for token in _CHATML[:2]]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=end,
        pad_token=end,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )
