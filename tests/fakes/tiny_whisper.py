"""Tiny random Whisper models in CTranslate2 folders, converted by CTranslate2 itself, and sound for them to hear.

The vocabulary is small (`VOCAB_SIZE` instead of 51866) and of the real layout behind its text tokens, so languages,
tasks and times work as in the large ones. What a model "hears" is nonsense, but depends on the sound: weights are drawn
wide, and ends and times are made likely enough that windows end, and hold several segments.
`speech` is a voice of pulses through formants, which Silero takes for speech, made on the spot without any program.
"""

import json
import wave
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

SAMPLE_RATE = 16_000
LANGUAGES = ("en", "de", "fr", "zh", "ja")
NUM_TEXT_TOKENS = 400
NUM_TIMES = 1501
_TASKS = ("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")
_SPECIALS = ("<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in LANGUAGES), *_TASKS)
VOCAB_SIZE = NUM_TEXT_TOKENS + 1 + len(_SPECIALS) + NUM_TIMES

# Attention to the sound is sharp, and the place in the text counts: else all that is heard would be alike.
_DEVIATIONS = {
    "encoder_attn.q_proj.weight": 1.0,
    "encoder_attn.k_proj.weight": 1.0,
    "encoder_attn.v_proj.weight": 1.0,
    "decoder.embed_positions": 1.0,
}

_CORPUS = (
    "the hearth keeps the house warm while the kettle sings and the embers glow",
    "a request waits in the queue until the scheduler gives it blocks and a turn",
    "where the fire is lit there is warmth, and when it is banked there is rest. - 'tis",
)


def build_tiny_whisper(
    directory: Path,
    *,
    is_multilingual: bool = True,
    quantization: str = "float32",
    num_mel_bins: int = 80,
    seed: int = 0,
    **config_overrides: Any,
) -> Path:
    """Write a CTranslate2 folder with tokenizer and preprocessor; the same arguments give the same model."""
    checkpoint = directory.with_name(directory.name + ".transformers")
    tokenizer = _build_tokenizer()
    model = _build_model(num_mel_bins, tokenizer, config_overrides)
    _randomise(model, tokenizer, seed)
    model.save_pretrained(checkpoint)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", unk_token="<|endoftext|>")
    fast.save_pretrained(checkpoint)
    WhisperFeatureExtractor(feature_size=num_mel_bins).save_pretrained(checkpoint)
    copied = ["tokenizer.json", "preprocessor_config.json"]
    converter = ctranslate2.converters.TransformersConverter(str(checkpoint), copy_files=copied)
    converter.convert(str(directory), quantization=quantization)
    _finish_vocabulary(directory, is_multilingual)
    return directory


def speech(duration_s: float, *, seed: int = 0, pause_s: float = 0.0) -> NDArray[np.float32]:
    """16 kHz mono. `pause_s`: of silence after every 3 s or so of voice, within the duration."""
    generator = np.random.default_rng(seed)
    parts: list[NDArray[np.float32]] = []
    length = 0
    while length < duration_s * SAMPLE_RATE:
        parts += [_phrase(generator), np.zeros(int(pause_s * SAMPLE_RATE), dtype=np.float32)]
        length += sum(map(len, parts[-2:]))
    return np.concatenate(parts)[: int(duration_s * SAMPLE_RATE)]


def wav_file(samples: NDArray[np.float32], path: Path, *, rate: int = SAMPLE_RATE, num_channels: int = 1) -> Path:
    """16 bits a sample; with more channels they are alike."""
    frames = (np.clip(samples, -1, 1) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(num_channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.repeat(frames, num_channels).tobytes())
    return path


def _phrase(generator: np.random.Generator) -> NDArray[np.float32]:
    """Syllables of some tenths of a second: a vowel between short noises, with a falling melody."""
    pieces = []
    for index in range(12):
        pieces.append(_noise(generator))
        pieces.append(_vowel(generator, pitch=130 - 3 * index + generator.normal(0, 4)))
    phrase = np.concatenate(pieces)
    loudest = float(np.abs(phrase).max())
    return np.asarray(0.3 * phrase / loudest, dtype=np.float32)


def _vowel(generator: np.random.Generator, pitch: float) -> NDArray[np.float64]:
    formants = generator.choice([(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480)])
    num_samples = int(SAMPLE_RATE * generator.uniform(0.12, 0.25))
    time = np.arange(num_samples) / SAMPLE_RATE
    phase = np.cumsum(np.full(num_samples, pitch) * (1 + 0.03 * np.sin(2 * np.pi * 5 * time))) / SAMPLE_RATE
    sound = np.zeros(num_samples)
    for harmonic in range(1, int(4000 / pitch)):
        # Each harmonic is as loud as the formants near it let through.
        frequency = harmonic * pitch
        gain = sum(1 / (1 + ((frequency - formant) / (60 + 0.05 * formant)) ** 2) for formant in formants)
        sound += gain / harmonic**0.5 * np.sin(2 * np.pi * harmonic * phase)
    return sound * np.hanning(num_samples) ** 0.5


def _noise(generator: np.random.Generator) -> NDArray[np.float64]:
    num_samples = int(SAMPLE_RATE * generator.uniform(0.02, 0.07))
    return np.diff(generator.normal(0, 0.4, num_samples + 1)) * np.hanning(num_samples)


def _build_tokenizer() -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_TEXT_TOKENS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    while tokenizer.get_vocab_size() < NUM_TEXT_TOKENS + 1:
        # The last one takes the place of the empty token, by which CTranslate2 knows the multilingual models.
        tokenizer.add_tokens([AddedToken(f"<unused {tokenizer.get_vocab_size()}>", special=False)])
    times = (f"<|{index * 0.02:.2f}|>" for index in range(NUM_TIMES))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (*_SPECIALS, *times)])
    assert tokenizer.get_vocab_size() == VOCAB_SIZE
    return tokenizer


def _build_model(num_mel_bins: int, tokenizer: Any, overrides: dict[str, Any]) -> WhisperForConditionalGeneration:
    end = tokenizer.token_to_id("<|endoftext|>")
    shape = {
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
    }
    config = WhisperConfig(
        vocab_size=VOCAB_SIZE,
        num_mel_bins=num_mel_bins,
        **(shape | overrides),
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=tokenizer.token_to_id("<|startoftranscript|>"),
        suppress_tokens=[],
        begin_suppress_tokens=[tokenizer.token_to_id("Ġ"), end],
    )
    model = WhisperForConditionalGeneration(config)
    generation = model.generation_config
    generation.suppress_tokens = config.suppress_tokens
    generation.begin_suppress_tokens = config.begin_suppress_tokens
    generation.lang_to_id = {f"<|{code}|>": tokenizer.token_to_id(f"<|{code}|>") for code in LANGUAGES}
    generation.alignment_heads = [[1, 0], [1, 1]]
    generation._from_model_config = False  # else what it does not know is lost on the way through the file
    return model


def _randomise(model: torch.nn.Module, tokenizer: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "encoder.embed_positions" in name:
                continue
            mean = 1.0 if "layer_norm.weight" in name else 0.0
            deviation = next((value for part, value in _DEVIATIONS.items() if part in name), 0.3)
            parameter.copy_(mean + deviation * torch.randn(parameter.shape, generator=generator))
        _prefer_words(model, tokenizer)


def _prefer_words(model: Any, tokenizer: Any) -> None:
    """One of the hidden state's numbers is the same for every state, and says of each token how likely it is at all."""
    decoder = model.model.decoder
    rows = decoder.embed_tokens.weight
    rows *= 4 / rows.norm(dim=1, keepdim=True)  # else the longest would be said all the time
    decoder.layer_norm.weight[0], decoder.layer_norm.bias[0] = 0.0, 4.0
    likelihood = torch.full([VOCAB_SIZE], -2.0)
    for token, token_id in tokenizer.get_vocab().items():
        if token.startswith("<|") and token[2].isdigit():
            likelihood[token_id] = 0.3
        elif token.removeprefix("Ġ").isalpha() and token.removeprefix("Ġ").isascii() and len(token) > 2:
            likelihood[token_id] = 1.0 if token.startswith("Ġ") else 0.6
    likelihood[tokenizer.token_to_id("<|endoftext|>")] = 1.0
    likelihood[tokenizer.token_to_id("<|notimestamps|>")] = -10.0
    rows[:, 0] = likelihood


def _finish_vocabulary(directory: Path, is_multilingual: bool) -> None:
    path = directory / "vocabulary.json"
    tokens = json.loads(path.read_text())
    assert len(tokens) == VOCAB_SIZE
    tokens[NUM_TEXT_TOKENS] = "" if is_multilingual else tokens[NUM_TEXT_TOKENS]
    path.write_text(json.dumps(tokens))
