"""What one step may take for granted of the step before it, which is still on its way. Pure; knows no torch.

A row that is sampled gives its request one token, whichever it is: so the next step can be scheduled, and its row gets
that token on the device. Where the host must see the step first it is retired before the next is scheduled.
"""

from runtime.llm.request import Batch, Request, ScheduledRequest


class Flight:
    """What a batch that was launched and not retired is doing for its requests; empty where there is none."""

    def __init__(self, batch: Batch | None) -> None:
        self._rows = {} if batch is None else {row.request: row for row in batch.scheduled}

    def __bool__(self) -> bool:
        return bool(self._rows)

    def num_computed_tokens(self, request: Request) -> int:
        """Once it is retired."""
        row = self._rows.get(request)
        return request.num_computed_tokens + (0 if row is None else row.num_tokens)

    def num_missing_tokens(self, request: Request) -> int:
        """To compute until the next token can be sampled; 0: the one on its way is the last that it may put out."""
        row = self._rows.get(request)
        if row is None:
            return request.num_missing_tokens
        if row.is_sampled and len(request.output_token_ids) + 1 >= request.max_tokens:
            return 0
        return request.num_missing_tokens - row.num_tokens + row.is_sampled

    def next_row(self, request: Request, num_tokens: int) -> ScheduledRequest:
        """Behind what is on its way."""
        row = self._rows.get(request)
        is_sampled = num_tokens == self.num_missing_tokens(request)
        if row is None:
            return ScheduledRequest(request, num_tokens, is_sampled)
        return ScheduledRequest(request, num_tokens, is_sampled, num_ahead=row.num_tokens, awaits_token=row.is_sampled)


def can_be_followed(batch: Batch) -> bool:
    """Whether the next step may be scheduled before this one is retired.

    Not behind a draft, of which the host must know how much was accepted; nor behind prompt logprobs, which are read
    while they are computed; nor behind a row with an image, which may turn out not to have been computed at all.
    """
    return not any(
        row.draft_token_ids or row.request.num_prompt_logprobs or _may_show_image(row) for row in batch.scheduled
    )


def is_sampled_late(batch: Batch) -> bool:
    """Whether a row's token depends on more of the token before than the model's logits do, so that the host must have
    seen that one before this one is chosen: a constraint's mask, penalties' counts, mirostat's mu."""
    return any(row.awaits_token and _looks_back(row.request) for row in batch.scheduled)


def _looks_back(request: Request) -> bool:
    return (
        request.constraint is not None
        or request.token_counts is not None
        or (request.sampling.mirostat_target is not None and request.sampling.temperature > 0)
    )


def _may_show_image(row: ScheduledRequest) -> bool:
    return bool(row.request.images) and row.request.num_computed_tokens < len(row.request.prompt_token_ids)
