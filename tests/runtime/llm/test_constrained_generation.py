"""Answers held to grammars by the whole engine: a real model with random weights, hot, in mixed batches."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray

from models.json_schema.preparation import prepare_schema
from runtime.engine import Postponed
from runtime.llm.engine import LlmEngine
from runtime.llm.grammar.answer_grammar import write_answer_grammar
from runtime.llm.grammar.compiler import GrammarCompiler, MakeConstraint
from runtime.llm.request import Generation, Request, RequestFailed, TokenConstraint, TokenOutput
from runtime.llm.thinking import AfterThinking
from runtime.llm.vocabulary import Vocabulary
from runtime.settings import Speculation
from runtime.submission import GrammarConstraint, JsonConstraint, SamplingParams
from tests.fakes.hostile_requests import ScatteredConstraint
from tests.fakes.tiny_engine import TinyModel, make_request, run, token_ids
from tests.fakes.tiny_llm import END_TOKEN_ID, TURN_TOKEN_ID, VOCAB_SIZE, build_tiny_model

HOT = SamplingParams(temperature=2.0)
PROMPT = [5, 6, 7, 8, 9, 10, 11]
PATIENCE_S = 60.0
MAX_TOKENS = 120

SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 4},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
        },
        "required": ["name", "age"],
    },
    {"type": "array", "items": {"enum": ["red", "green", None]}, "minItems": 1, "maxItems": 3},
    {"type": "array", "items": {"type": "string", "pattern": "^[a-f]{2}-\\d$"}, "minItems": 2, "maxItems": 2},
    {"anyOf": [{"type": "boolean"}, {"const": {"nothing": []}}]},
]
GBNF = 'root ::= "(" root ")" | "x"{1,3} | "é"'


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model"), "llama")


@pytest.fixture(scope="module")
def model(model_dir: Path) -> TinyModel:
    return TinyModel(model_dir)


@pytest.fixture(scope="module")
def vocabulary(model_dir: Path) -> Vocabulary:
    return Vocabulary.load(model_dir)


@pytest.fixture(scope="module")
def compiler(model_dir: Path) -> Iterator[GrammarCompiler]:
    compiler = GrammarCompiler(model_dir, VOCAB_SIZE, [END_TOKEN_ID])
    yield compiler
    compiler.close()


def compiled(compiler: GrammarCompiler, constraint: JsonConstraint | GrammarConstraint) -> MakeConstraint:
    while True:
        try:
            return compiler.compile_lark(write_answer_grammar(constraint))
        except Postponed as postponed:
            postponed.ready.result(PATIENCE_S)


def make_json(compiler: GrammarCompiler, schema: dict[str, Any]) -> MakeConstraint:
    return compiled(compiler, JsonConstraint(schema=prepare_schema(schema).schema_text))


def request(
    request_id: str, constraint: TokenConstraint | None, *, sampling: SamplingParams = HOT, seed: int = 0, **more: Any
) -> Request:
    made = make_request(PROMPT, request_id=request_id, max_tokens=MAX_TOKENS, sampling=sampling, seed=seed, **more)
    made.stop_token_ids = frozenset({END_TOKEN_ID})
    made.constraint = constraint
    return made


def text_of(outputs: list[TokenOutput], vocabulary: Vocabulary) -> str:
    return b"".join(vocabulary.text_bytes(output.token_id) for output in outputs).decode()


def test_every_hot_answer_is_valid_and_ends_by_itself(
    model: TinyModel, compiler: GrammarCompiler, vocabulary: Vocabulary
) -> None:
    makers = [make_json(compiler, schema) for schema in SCHEMAS]
    requests = [request(f"{seed}/{index}", make(), seed=seed) for seed in range(5) for index, make in enumerate(makers)]
    for done, made in zip(run(model.engine(), requests, steps_between=1), requests, strict=True):
        assert done[-1].finish_reason == "stop"
        assert done[-1].ends_sentence == (done[-1].token_id != END_TOKEN_ID)
        schema = SCHEMAS[int(made.request_id[-1])]
        jsonschema.validate(json.loads(text_of(done, vocabulary)), schema)


def test_neighbours_of_constrained_requests_do_not_notice(model: TinyModel, compiler: GrammarCompiler) -> None:
    alone = [token_ids(run(model.engine(), [request("r", None, seed=seed)])) for seed in range(3)]
    make = make_json(compiler, SCHEMAS[0])
    mixed = [request(f"free {seed}", None, seed=seed) for seed in range(3)]
    mixed += [request(f"held {seed}", make(), seed=seed) for seed in range(3)]
    assert token_ids(run(model.engine(), mixed))[:3] == [own for [own] in alone]


def test_a_preempted_answer_goes_on_where_it_was(
    model: TinyModel, compiler: GrammarCompiler, vocabulary: Vocabulary
) -> None:
    make = make_json(compiler, SCHEMAS[0])
    requests = [request(f"r{seed}", make(), seed=seed) for seed in range(6)]
    # More than the pool holds at once, less than one of them needs.
    roomy = token_ids(run(model.engine(), requests))
    requests = [request(f"r{seed}", make(), seed=seed) for seed in range(6)]
    tight = run(model.engine(num_blocks=18), requests)
    assert any(made.num_preemptions for made in requests)
    assert token_ids(tight) == roomy
    for done in tight:
        json.loads(text_of(done, vocabulary))


@pytest.mark.parametrize("sampling", [HOT, SamplingParams(temperature=0)])
def test_drafts_change_nothing(model: TinyModel, compiler: GrammarCompiler, sampling: SamplingParams) -> None:
    make = make_json(compiler, SCHEMAS[2])

    def requests(prediction: list[int]) -> list[Request]:
        return [request(f"r{s}", make(), seed=s, sampling=sampling, prediction=prediction) for s in range(4)]

    plain = token_ids(run(model.engine(), requests([])))
    assert token_ids(run(model.engine(), requests(plain[0]))) == plain
    assert token_ids(run(model.engine(), requests([1, 2, 3] * 20))) == plain
    ngrams = model.engine(speculation=Speculation(ngram_length=2, num_draft_tokens=4))
    assert token_ids(run(ngrams, requests([]))) == plain


def test_a_grammar_is_kept_to(model: TinyModel, compiler: GrammarCompiler, vocabulary: Vocabulary) -> None:
    make = compiled(compiler, GrammarConstraint(gbnf=GBNF))
    outputs = run(model.engine(), [request(f"r{seed}", make(), seed=seed) for seed in range(8)])
    for done in outputs:
        text = text_of(done, vocabulary)
        if done[-1].finish_reason == "stop":
            inner = text.strip("()")
            assert inner in ("x", "xx", "xxx", "é")
            assert text.count("(") == text.count(")")
        else:
            assert set(text) == {"("}


def test_an_answer_behind_thoughts_is_kept_to_all_the_same(
    model: TinyModel, compiler: GrammarCompiler, vocabulary: Vocabulary
) -> None:
    make = make_json(compiler, SCHEMAS[1])
    end = [TURN_TOKEN_ID]
    requests = [
        request(f"r{seed}", AfterThinking(end, make(), max_thoughts=5, stop_token_ids=[END_TOKEN_ID]), seed=seed)
        for seed in range(6)
    ]
    for done in run(model.engine(), requests):
        ids = [output.token_id for output in done]
        assert ids.index(TURN_TOKEN_ID) <= 5
        answer = done[ids.index(TURN_TOKEN_ID) + 1 :]
        jsonschema.validate(json.loads(text_of(answer, vocabulary)), SCHEMAS[1])


def test_the_end_counts_even_where_it_is_to_be_ignored(model: TinyModel, compiler: GrammarCompiler) -> None:
    made = request("r", compiled(compiler, GrammarConstraint(gbnf='root ::= "x"+'))())
    made.stop_token_ids = frozenset()
    made.sampling = SamplingParams(temperature=0, logit_bias={END_TOKEN_ID: 100.0})
    [done] = run(model.engine(), [made])
    assert [output.token_id for output in done][1:] == [END_TOKEN_ID]
    assert done[-1].finish_reason == "stop"


class Broken:
    """Breaks when it is filled, or when a token comes, after so many."""

    def __init__(self, *, num_fills: int = 1000, num_tokens: int = 1000) -> None:
        self._num_fills = num_fills
        self._num_tokens = num_tokens

    def fill_mask(self, mask: NDArray[np.int32]) -> bool:
        self._num_fills -= 1
        if self._num_fills < 0:
            raise RuntimeError("no mask")
        return False

    def accept(self, token_id: int) -> None:
        self._num_tokens -= 1
        if self._num_tokens < 0:
            raise ValueError("no token")

    def roll_back(self, num_tokens: int) -> None:
        self._num_tokens += num_tokens

    is_complete = False


def finish(engine: LlmEngine, requests: list[Request]) -> dict[str, list[TokenOutput | RequestFailed]]:
    outputs: dict[str, list[TokenOutput | RequestFailed]] = {made.request_id: [] for made in requests}
    for made in requests:
        engine.add(Generation(made.request_id, [made]))
    while engine.has_work():
        for output in engine.step():
            outputs[output.request_id].append(output)
        engine.check_integrity()
    return outputs


def test_a_constraint_that_breaks_fails_its_own_request(model: TinyModel, compiler: GrammarCompiler) -> None:
    [expected] = token_ids(run(model.engine(), [request("good", None)]))
    requests = [
        request("good", None),
        request("no mask", Broken(num_fills=0)),
        request("no third mask", Broken(num_fills=2)),
        request("no token", Broken(num_tokens=3)),
        # Nothing in this vocabulary goes on as the constraint wants.
        request("unreachable", Unreachable()),
    ]
    outputs = finish(model.engine(), requests)
    assert [output.token_id for output in outputs["good"] if isinstance(output, TokenOutput)] == expected
    for name in ("no mask", "no third mask", "no token", "unreachable"):
        assert isinstance(outputs[name][-1], RequestFailed), name


def test_a_draft_beyond_where_the_constraint_breaks_changes_nothing(model: TinyModel) -> None:
    num_tokens = 3

    def generate(prediction: list[int], stop_token_ids: frozenset[int]) -> list[TokenOutput | RequestFailed]:
        made = request("r", ScatteredConstraint(0, num_tokens), sampling=SamplingParams(temperature=0))
        made.prediction, made.stop_token_ids = prediction, stop_token_ids
        return finish(model.engine(), [made])["r"]

    *told, failure = generate([], frozenset())
    assert isinstance(failure, RequestFailed)
    drafted = [output.token_id for output in told if isinstance(output, TokenOutput)]
    assert len(drafted) == num_tokens
    *told_again, failure = generate([*drafted, END_TOKEN_ID], frozenset())
    assert isinstance(failure, RequestFailed)
    assert [output.token_id for output in told_again if isinstance(output, TokenOutput)] == drafted
    ended = generate([*drafted, END_TOKEN_ID], frozenset([drafted[1]]))
    assert [output.token_id for output in ended if isinstance(output, TokenOutput)] == drafted[:2]


class Unreachable(Broken):
    def fill_mask(self, mask: NDArray[np.int32]) -> bool:
        mask.fill(0)
        return True

    def accept(self, token_id: int) -> None:
        raise ValueError(token_id)
