"""Writes the model folder: CTranslate2 weights in float16, vocabulary, tokenizer, configuration."""

import json
import tempfile
from pathlib import Path

from ctranslate2.converters import TransformersConverter
from transformers import GenerationConfig, PreTrainedTokenizerFast, WhisperForConditionalGeneration

from scripts.ember_whisper.sound import FRAME_SAMPLES, NUM_MEL_BINS, SAMPLE_RATE
from scripts.ember_whisper.tokenizer import END, START, Vocabulary
from scripts.ember_whisper.training import ALIGNMENT_HEADS

CLIP_S = 6
"""So small a model loses count in sound that is full of words; whoever serves it cuts longer sound at pauses."""
SIZE_BYTES_MAX = 12 * 1024 * 1024


def convert(model: WhisperForConditionalGeneration, vocabulary: Vocabulary, directory: Path) -> None:
    with tempfile.TemporaryDirectory(dir=directory.parent) as name:
        checkpoint = Path(name)
        generation = GenerationConfig(
            eos_token_id=vocabulary.end,
            suppress_tokens=[],
            begin_suppress_tokens=[vocabulary.tokenizer.encode(" ").ids[0], vocabulary.end],
        )
        generation._from_model_config = False  # else what comes next is forgotten on reading
        generation.alignment_heads = [list(head) for head in ALIGNMENT_HEADS]
        generation.lang_to_id = {"<|en|>": vocabulary.tokenizer.token_to_id("<|en|>")}
        model.generation_config = generation
        model.save_pretrained(checkpoint)
        PreTrainedTokenizerFast(
            tokenizer_object=vocabulary.tokenizer, eos_token=END, bos_token=START, clean_up_tokenization_spaces=False
        ).save_pretrained(checkpoint)
        TransformersConverter(str(checkpoint), copy_files=["tokenizer.json"]).convert(
            str(directory), quantization="float16"
        )
    preprocessing = {
        "chunk_length": CLIP_S,
        "feature_size": NUM_MEL_BINS,
        "hop_length": FRAME_SAMPLES,
        "n_fft": 400,
        "sampling_rate": SAMPLE_RATE,
    }
    (directory / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2) + "\n")
