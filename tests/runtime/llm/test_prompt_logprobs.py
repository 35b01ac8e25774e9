"""What a prompt's tokens were worth to the model: as transformers' own forward says, however they were computed."""

from pathlib import Path

import pytest
import torch

from runtime.llm.prompt_logprobs import ROWS_AT_ONCE, PromptToken, prompt_logprobs, wanted_tokens
from runtime.llm.request import Generation, Request, SampledToken, TokenOutput
from runtime.submission import SamplingParams
from tests.fakes.tiny_engine import TinyModel, make_request, run
from tests.fakes.tiny_llm import build_tiny_model

PROMPT = [(7 * i * i + 3 * i) % 300 + 3 for i in range(29)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def tiny(directory: Path) -> TinyModel:
    return TinyModel(directory)


@pytest.fixture(scope="module")
def expected(directory: Path) -> torch.Tensor:
    """Row i: logprobs of what follows token i."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    with torch.inference_mode():
        logprobs: torch.Tensor = model(torch.tensor([PROMPT])).logits[0].log_softmax(dim=-1)
    return logprobs


def asking(num_prompt_logprobs: int, request_id: str = "r", num_logprobs: int = 2, max_tokens: int = 2) -> Request:
    request = make_request(PROMPT, request_id=request_id, num_logprobs=num_logprobs, max_tokens=max_tokens)
    request.num_prompt_logprobs = num_prompt_logprobs
    return request


def assert_told(outputs: list[TokenOutput], num_told: int, expected: torch.Tensor) -> None:
    first, *others = outputs
    assert not any(output.prompt_logprobs for output in others)
    assert [token.token_id for token in first.prompt_logprobs] == PROMPT[len(PROMPT) - num_told :]
    for offset, token in enumerate(first.prompt_logprobs):
        row = expected[len(PROMPT) - num_told + offset - 1]
        assert token.logprob == pytest.approx(float(row[token.token_id]), abs=1e-4)
        assert [value for _, value in token.top] == pytest.approx(row.topk(len(token.top)).values.tolist(), abs=1e-4)
        assert len(token.top) == 2


@pytest.mark.parametrize("num_told", [1, 8, 28])
@pytest.mark.parametrize("max_batch_tokens", [3, 64])
def test_they_are_a_teacher_forced_log_softmax(
    tiny: TinyModel, expected: torch.Tensor, num_told: int, max_batch_tokens: int
) -> None:
    engine = tiny.engine(max_batch_tokens=max_batch_tokens)
    (outputs,) = run(engine, [asking(num_told)])
    assert_told(outputs, num_told, expected)
    # What is in the cache by now is taken from it only as far as nothing is wanted of it.
    again, without = run(engine, [asking(num_told, "again"), asking(0, "without")])
    assert_told(again, num_told, expected)
    assert again[0].num_cached_tokens == max(0, len(PROMPT) - 1 - num_told) // 8 * 8
    assert without[0].num_cached_tokens == 24
    assert not without[0].prompt_logprobs


def test_they_change_nothing_for_who_shares_the_batch(tiny: TinyModel, expected: torch.Tensor) -> None:
    def requests(num_told: int) -> list[Request]:
        others = [make_request(PROMPT[i:], request_id=f"other {i}", num_logprobs=0) for i in range(1, 4)]
        return [others[0], asking(num_told), others[1], others[2]]

    without = run(tiny.engine(max_batch_tokens=20), requests(0), steps_between=1)
    told = run(tiny.engine(max_batch_tokens=20), requests(20), steps_between=1)
    assert_told(told[1], 20, expected)
    assert [[token.token_id for token in own] for own in told] == [[token.token_id for token in own] for own in without]


def test_a_preempted_request_tells_each_token_once(tiny: TinyModel, expected: torch.Tensor) -> None:
    """Blocks run out while the youngest is still in its prompt, which it then has to compute again."""
    engine = tiny.engine(num_blocks=10, max_batch_tokens=2)
    decoding = make_request(PROMPT[:8], request_id="old", max_tokens=50)
    decoding.stop_token_ids = frozenset()
    engine.add(Generation("old", [decoding]))
    while len(decoding.output_token_ids) < 22:
        engine.step()
    request = asking(28)
    engine.add(Generation("r", [request]))
    outputs: list[TokenOutput] = []
    while not outputs:
        outputs += [output for output in engine.step() if isinstance(output, TokenOutput) and output.request_id == "r"]
        engine.check_integrity()
    assert request.num_preemptions > 0
    assert_told(outputs, 28, expected)


def test_a_long_prompt_is_told_in_slices() -> None:
    torch.manual_seed(1)
    logits = torch.randn(700, 11)
    num_rows: list[int] = []

    def compute(rows: list[int]) -> torch.Tensor:
        num_rows.append(len(rows))
        return logits[rows]

    wanted = [PromptToken(row, row % 11, 0) for row in range(3, 700)]
    told = prompt_logprobs(wanted, compute)
    expected = logits.log_softmax(dim=-1)
    assert [token.logprob for token in told] == pytest.approx([float(expected[t.row, t.token_id]) for t in wanted])
    assert num_rows == [ROWS_AT_ONCE] * 10 + [697 - 10 * ROWS_AT_ONCE]
    assert ROWS_AT_ONCE <= 256


def test_a_step_tells_what_it_computes_and_was_not_told_before() -> None:
    request = Request(request_id="r", prompt_token_ids=[5, 6, 7, 8, 9], sampling=SamplingParams(), max_tokens=1)

    def rows(start: int, stop: int) -> list[tuple[int, int]]:
        return [(token.row, token.token_id) for token in wanted_tokens(request, start, stop, first_row=100)]

    assert rows(0, 5) == []
    request.num_prompt_logprobs = 3
    assert rows(0, 5) == [(101, 7), (102, 8), (103, 9)]
    assert rows(0, 2) == [(101, 7)]
    assert rows(2, 4) == [(100, 8), (101, 9)]
    assert rows(4, 5) == []
    request.prompt_logprobs.append(SampledToken(7, -1.0, []))
    assert rows(0, 4) == [(102, 8), (103, 9)]
