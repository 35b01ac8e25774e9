"""Requests and deltas for tests of what is made of them, without a socket."""

import json
from typing import Any

from appliance.api.data.choices import Shape
from appliance.api.data.generation import GenerationBody
from appliance.api.data.performance import Stopwatch
from appliance.api.data.stream import ChunkEncoder
from appliance.domain import Deployment, DeploymentState
from appliance.services.generation import Generation
from appliance.services.inference import Answer
from runtime.protocol import Delta, Submit, TokenLogprob, Usage
from runtime.submission import SamplingParams, TextPrompt

MODEL = 'm"é'


def usage(completion: int, cached: int = 0) -> Usage:
    return Usage(num_prompt_tokens=10, num_cached_tokens=cached, num_completion_tokens=completion)


def token(text: str) -> TokenLogprob:
    return TokenLogprob(token_id=1, token=text.encode(), logprob=-0.5)


def generation_of(body: GenerationBody, num_choices: int = 1) -> Generation:
    return Generation(
        request_id="id",
        model=MODEL,
        prompts=[TextPrompt(text="")],
        num_choices=num_choices,
        num_logprobs=None if body.logprobs is None else 0,
        shows_prompt=bool(body.return_token_ids or body.raw_output),
    )


def stopwatch(sampling: SamplingParams | None = None) -> Stopwatch:
    async def outputs() -> Any:
        yield []

    deployment = Deployment(
        account_id="hearth",
        id="d",
        base_model="b",
        state=DeploymentState.READY,
        desired_replica_count=1,
        created_at=0.0,
        updated_at=0.0,
    )
    submit = Submit(request_id="id-0", prompt=TextPrompt(text=""), sampling=sampling or SamplingParams(), max_tokens=9)
    return Stopwatch(Answer(deployment, submit, outputs(), forecast=str))


def encoder(shape: Shape, num_choices: int = 1, **fields: Any) -> ChunkEncoder:
    body = GenerationBody(model=MODEL, **fields)
    return ChunkEncoder(shape, body, generation_of(body, num_choices), stopwatch())


def finish(index: int = 0, **fields: Any) -> Delta:
    return Delta(request_id="id", index=index, **{"finish_reason": "stop", "usage": usage(2), **fields})


def chunks(encoded: bytes) -> list[Any]:
    events = encoded.decode().split("\n\n")
    assert events.pop() == ""
    return [json.loads(event.removeprefix("data: ")) for event in events]
