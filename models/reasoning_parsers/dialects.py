"""Which markers a model thinks between: by the words of its chat template, unless its folder names a dialect."""

from models.reasoning_parsers.parser import ThoughtMarkers

_THINK = ThoughtMarkers("<think>", "</think>")

REASONING_PARSERS: dict[str, ThoughtMarkers | None] = {
    "none": None,
    "deepseek_r1": _THINK,
    "qwen3": _THINK,
    "mistral": ThoughtMarkers("[THINK]", "[/THINK]"),
    "seed_oss": ThoughtMarkers("<seed:think>", "</seed:think>"),
}
"""By the name that `fireworks.json` may say."""


def detect_reasoning_parser(template: str) -> str:
    """A name out of REASONING_PARSERS."""
    for sign, name in (
        ("</seed:think>", "seed_oss"),
        ("[/THINK]", "mistral"),
        ("</think>", "qwen3"),
        ("<think>", "qwen3"),
    ):
        if sign in template:
            return name
    return "none"
