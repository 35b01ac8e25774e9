"""Runs under fireworks-ai 0.19.20 alone: has a sound file written down by its old client, and prints it as JSON.

Arguments: base URL, key, model, sound file. Imports nothing of ours.
"""

import json
import sys
from importlib import import_module
from typing import Any

# By name: type checkers see the newer release, which has other things under this one.
audio: Any = import_module("fireworks.client.audio")


def refusal(call: Any) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def main(base_url: str, key: str, model: str, file: str) -> dict[str, Any]:
    client = audio.AudioInference(model=model, base_url=base_url, api_key=key)
    verbose = client.transcribe(file, response_format="verbose_json", temperature=[0.0, 0.2], skip_vad=False)
    timed = client.transcribe(
        file, response_format="verbose_json", timestamp_granularities=["word", "segment"], alignment_model="whisper"
    )
    aligned = client.align(file, "the hearth keeps the house warm", alignment_model="whisper")
    with open(file, "rb") as sound:
        content = sound.read()
    return {
        "json": client.transcribe(content).text,
        "verbose": verbose.model_dump(),
        "timed": timed.model_dump(),
        "srt": client.transcribe(file, response_format="srt"),
        "translated": client.translate(file, response_format="verbose_json").model_dump(),
        "aligned": aligned.model_dump(),
        "aligned_vtt": client.align(file, "the hearth", response_format="vtt", alignment_model="whisper"),
        "refusals": {
            "alignment_model": refusal(lambda: client.align(file, "the hearth")),
            "url": refusal(lambda: client.transcribe("https://sounds.invalid/x.flac")),
            "diarize": refusal(lambda: client.transcribe(file, diarize="true")),
        },
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
