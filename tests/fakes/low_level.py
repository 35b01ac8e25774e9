"""What a made-up answer says beside its words, as a request asks for it: the prompt, its echo, times.

For fakes that make deltas up; a prompt's token `i` reads "p<i> ".
"""

import msgspec

from runtime.protocol import Delta, Performance, PromptOutput, Submit, TokenLogprob, TopLogprob

TIMES = Performance(
    tokenizer_queue_s=0.001,
    tokenizer_s=0.002,
    prefill_queue_s=0.003,
    prefill_s=0.004,
    generation_queue_s=0.0,
    generation_s=0.05,
    num_concurrent_requests=3,
)


def made_up_prompt(num_tokens: int) -> PromptOutput:
    return PromptOutput(text="".join(map(prompt_token, range(num_tokens))), token_ids=list(range(num_tokens)))


def prompt_token(token_id: int) -> str:
    return f"p{token_id} "


def with_low_level(submit: Submit, delta: Delta, num_prompt_tokens: int, *, is_first: bool) -> Delta:
    """The delta of a choice that says no more than words, completed; `is_first` of its choice."""
    if submit.shows_prompt:
        prompt = made_up_prompt(num_prompt_tokens) if is_first and delta.index == 0 else None
        delta = msgspec.structs.replace(delta, raw_text=delta.text, prompt=prompt)
    if is_first and submit.num_echoed_tokens is not None:
        delta = _with_echo(submit, delta, list(range(num_prompt_tokens))[-submit.num_echoed_tokens :])
    if delta.finish_reason is not None:
        length = len(submit.prediction)
        performance = msgspec.structs.replace(
            TIMES, num_predicted_tokens=length, num_predicted_accepted=length // 2, num_drafted_tokens=length
        )
        delta = msgspec.structs.replace(delta, performance=performance)
    return delta


def _with_echo(submit: Submit, delta: Delta, token_ids: list[int]) -> Delta:
    logprobs = delta.logprobs
    if submit.num_logprobs is not None:
        logprobs = [*(_echoed(token_id, submit.num_logprobs) for token_id in token_ids), *(logprobs or [])]
    text = "".join(map(prompt_token, token_ids)) + delta.text
    return msgspec.structs.replace(delta, text=text, echo_token_ids=token_ids, logprobs=logprobs)


def _echoed(token_id: int, num_logprobs: int) -> TokenLogprob:
    token = prompt_token(token_id).encode()
    if token_id == 0:
        return TokenLogprob(token_id=0, token=token, logprob=None)
    top = [TopLogprob(token_id=rank, token=b"w%d" % rank, logprob=-1.0 - rank) for rank in range(num_logprobs)]
    return TokenLogprob(token_id=token_id, token=token, logprob=-1.0, top=top)
