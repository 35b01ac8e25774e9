from pathlib import Path

import pytest
import torch

from runtime.llm.attention_gather import GatherAttention
from runtime.llm.attention_triton import TritonAttention
from runtime.llm.graph_sizes import GraphSizes
from runtime.llm.graphs import StepGraphs
from runtime.llm.model_runner import ModelRunner
from runtime.llm.network import Network
from runtime.llm.request import Batch, Request, RowResult, SampledToken, ScheduledRequest
from tests.fakes.recorded_graphs import RecordedGraphs
from tests.fakes.tiny_engine import TinyModel, make_request, run, token_ids
from tests.fakes.tiny_llm import VOCAB_SIZE, build_tiny_model
from tests.fakes.triton_device import IS_INTERPRETED


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return TinyModel(build_tiny_model(tmp_path_factory.mktemp("llama"), "llama"))


def _request(num_tokens: int, first_block: int) -> Request:
    request = make_request(list(range(3, 3 + num_tokens)), num_logprobs=1)
    request.block_ids = list(range(first_block, first_block + 8))
    return request


def _tokens(results: list[RowResult]) -> list[SampledToken]:
    return [token for result in results for token in result.tokens]


def _logprobs(sampled: list[SampledToken]) -> list[float]:
    return [token.logprob for token in sampled if token.logprob is not None]


def test_a_prompt_in_chunks_gives_what_the_whole_gives(tiny: TinyModel) -> None:
    whole = _request(20, first_block=1)
    (expected,) = _tokens(tiny.runner().execute(Batch([ScheduledRequest(whole, 20, True)])))
    runner, request = tiny.runner(), _request(20, first_block=1)
    for num_tokens, is_last in [(7, False), (1, False), (12, True)]:
        sampled = _tokens(runner.execute(Batch([ScheduledRequest(request, num_tokens, is_last)])))
        assert len(sampled) == is_last
        request.num_computed_tokens += num_tokens
    assert sampled[0].token_id == expected.token_id
    assert _logprobs(sampled) == pytest.approx(_logprobs([expected]), abs=1e-4)


def test_only_rows_that_want_a_token_get_one_in_the_order_of_the_batch(tiny: TinyModel) -> None:
    requests = [_request(length, first_block=1 + 10 * index) for index, length in enumerate((4, 9, 6))]
    alone = [
        _tokens(tiny.runner().execute(Batch([ScheduledRequest(request, len(request.prompt_token_ids), True)])))[0]
        for request in requests
    ]
    batch = Batch(
        [
            ScheduledRequest(requests[0], 4, True),
            ScheduledRequest(requests[1], 5, False),
            ScheduledRequest(requests[2], 6, True),
        ]
    )
    together = _tokens(tiny.runner().execute(batch))
    assert [token.token_id for token in together] == [alone[0].token_id, alone[2].token_id]
    assert _logprobs(together) == pytest.approx(_logprobs([alone[0], alone[2]]), abs=1e-4)


def test_requests_are_read_and_not_changed(tiny: TinyModel) -> None:
    runner: ModelRunner = tiny.runner()
    request = _request(5, first_block=1)
    runner.execute(Batch([ScheduledRequest(request, 5, True)]))
    assert (request.num_computed_tokens, request.output_token_ids) == (0, [])
    assert request.block_ids == list(range(1, 9))


def test_a_step_follows_one_whose_token_the_host_has_not_seen(tiny: TinyModel) -> None:
    runner, seen = tiny.runner(), _request(9, first_block=1)
    expected = []
    for num_tokens in (9, 1, 1):
        (token,) = _tokens(runner.execute(Batch([ScheduledRequest(seen, num_tokens, True)])))
        expected.append(token)
        seen.num_computed_tokens += num_tokens
        seen.output_token_ids.append(token.token_id)
    runner, request, other = tiny.runner(), _request(9, first_block=1), _request(4, first_block=20)
    first = runner.launch(Batch([ScheduledRequest(other, 3, False), ScheduledRequest(request, 9, True)]))
    first.sample()
    second = runner.launch(Batch([ScheduledRequest(request, 1, True, num_ahead=9, awaits_token=True)]))
    second.sample()
    found = _tokens(first.results())
    request.num_computed_tokens += 9
    request.output_token_ids.append(found[0].token_id)
    third = runner.launch(Batch([ScheduledRequest(request, 1, True, num_ahead=1, awaits_token=True)]))
    found += _tokens(second.results())
    request.num_computed_tokens += 1
    request.output_token_ids.append(found[1].token_id)
    third.sample()
    found += _tokens(third.results())
    assert [token.token_id for token in found] == [token.token_id for token in expected]
    assert _logprobs(found) == pytest.approx(_logprobs(expected), abs=1e-4)


def test_layers_left_unpacked_are_packed_while_it_serves(tmp_path: Path) -> None:
    tiny = TinyModel(build_tiny_model(tmp_path, "qwen2"))
    runner, request = tiny.runner(), _request(3, first_block=1)
    (first,) = _tokens(runner.execute(Batch([ScheduledRequest(request, 3, True)])))
    for _ in range(20):
        (again,) = _tokens(runner.execute(Batch([ScheduledRequest(request, 3, True)])))
        assert again.token_id == first.token_id
    assert not tiny.packing


class GraphedModel(TinyModel):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.capturer = RecordedGraphs()
        # A graph cannot read a file.
        table = self.model.model.embed_tokens(torch.arange(self.info.vocab_size))
        self.model.model.embed_tokens = torch.nn.Embedding.from_pretrained(table)  # type: ignore[no-untyped-call]

    def _runner_with(self, attention: GatherAttention) -> ModelRunner:
        cpu = torch.device("cpu")
        triton = TritonAttention(
            attention.shape, num_blocks=200, block_size=attention.block_size, dtype=attention.dtype, device=cpu
        )
        sizes = GraphSizes(max_num_logits=32, max_batch_tokens=16, tokens_per_tile=triton.tokens_per_tile)
        graphs = StepGraphs(Network(self.model), triton, self.capturer, sizes, device=cpu, budget_bytes=100)
        return ModelRunner(self.model, triton, self.packing, graphs=graphs)


@pytest.mark.skipif(not IS_INTERPRETED, reason="tiny models are on the CPU")
def test_a_model_says_the_same_with_graphs(tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path, "qwen3")
    generator = torch.Generator().manual_seed(5)
    prompts = [torch.randint(3, VOCAB_SIZE, (length,), generator=generator).tolist() for length in (11, 3, 1)]
    graphed = GraphedModel(directory)
    said = [
        token_ids(
            run(
                model.engine(),
                [make_request(prompt, request_id=str(i), max_tokens=6) for i, prompt in enumerate(prompts)],
                steps_between=3,
            )
        )
        for model in (TinyModel(directory), graphed)
    ]
    assert said[0] == said[1]
    assert graphed.capturer.num_replays > 3
