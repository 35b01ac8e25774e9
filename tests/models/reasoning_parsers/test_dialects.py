import pytest

from models.reasoning_parsers.dialects import REASONING_PARSERS, detect_reasoning_parser


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{{ '<|assistant|><think>\\n' }}", "qwen3"),
        ("{% set content = message.content.split('</think>')[-1] %}", "qwen3"),
        ("[THINK]{{ message.reasoning_content }}[/THINK]", "mistral"),
        ("<seed:think></seed:think>", "seed_oss"),
        ("{{ message.content }}", "none"),
    ],
)
def test_the_template_tells_the_markers(template: str, name: str) -> None:
    assert detect_reasoning_parser(template) == name
    assert name in REASONING_PARSERS
