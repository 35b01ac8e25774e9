"""Which rows of a step get a draft, of which proposer and how long. Owns what is known of each request's drafts.

A draft costs computing time of the step it is in, so there is none when many rows share it anyway, and it takes only
budget and blocks that nothing else wants. No effect on any output: the target model's own choice at each position
decides whether the draft's token was right (`model_runner.py`). Knows no torch.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from models.sizing import LOGIT_ROWS_MIN
from runtime.llm.request import Batch, Request, ScheduledRequest
from runtime.llm.speculation.acceptance import Acceptance
from runtime.llm.speculation.ngram import NgramProposer
from runtime.llm.speculation.prediction import PredictionProposer
from runtime.settings import Speculation

logger = logging.getLogger(__name__)

ROWS_MAX = 16
"""With more that decode at once a step is no longer bound by reading the weights, and a draft is no gain."""
VERIFY_COST = 0.04
"""Of one drafted token in a step, relative to a step of one row."""
PREDICTION_LENGTH_MAX = 16
DRAFT_LENGTH_DEFAULT = 8
MODEL_DRAFT_LENGTH_DEFAULT = 4

T = TypeVar("T")
Reserve = Callable[[Request, int], int]
"""Make room for so many more tokens; returns for how many there is."""


class Proposer(Protocol):
    """Guesses for one request, from token ids alone. It may forget, be wrong, or say nothing."""

    def propose(self, output_token_ids: Sequence[int], max_tokens: int) -> list[int]:
        """What may follow this output, `max_tokens` at most. The output only ever grows between two calls."""


class DraftModel(Protocol):
    """A second, small model that computes along with the target (`draft_model.py`)."""

    relative_cost: float
    """Of one of its steps, relative to one of the target's."""

    def propose(self, batch: Batch, lengths: Mapping[Request, int]) -> dict[Request, list[int]]:
        """Compute all that the batch does, drafts included; and for these of its decode rows a draft so long."""


class DraftCounts(NamedTuple):
    """What speculation brought one request so far, in tokens."""

    num_drafted: int = 0
    num_accepted: int = 0
    num_predicted_accepted: int = 0


class _Source(NamedTuple):
    proposer: Proposer
    acceptance: Acceptance
    is_prediction: bool


class _Drafter:
    """One request's proposers, the best first; the draft model, asked for all requests together, comes last."""

    def __init__(self, sources: list[_Source], model_acceptance: Acceptance | None) -> None:
        self.counts = DraftCounts()
        self._sources = sources
        self._model_acceptance = model_acceptance
        self._asked: Acceptance | None = None
        """Whose draft is in the running step."""
        self._is_prediction = False

    def propose(self, request: Request, max_tokens: int) -> list[int]:
        for proposer, acceptance, is_prediction in self._sources:
            length = min(acceptance.draft_length(), max_tokens)
            draft = proposer.propose(request.output_token_ids, length) if length > 0 else []
            if draft:
                self._asked, self._is_prediction = acceptance, is_prediction
                return allowed_part(request, draft)
        return []

    def model_draft_length(self, max_tokens: int) -> int:
        if self._model_acceptance is None:
            return 0
        self._asked, self._is_prediction = self._model_acceptance, False
        return max(0, min(self._model_acceptance.draft_length(), max_tokens))

    def note(self, num_drafted: int, num_accepted: int) -> None:
        assert self._asked is not None
        self._asked.note(num_drafted, num_accepted)
        drafted, accepted, predicted = self.counts
        predicted += num_accepted if self._is_prediction else 0
        self.counts = DraftCounts(drafted + num_drafted, accepted + num_accepted, predicted)


class Speculator:
    """`max_num_requests`: rows of logits that a step may always have."""

    def __init__(
        self, settings: Speculation, draft_model: DraftModel | None, *, max_num_requests: int, max_batch_tokens: int
    ) -> None:
        self._settings = settings
        self._draft_model = draft_model
        self._max_batch_tokens = max_batch_tokens
        self._max_logit_rows = max(max_num_requests, LOGIT_ROWS_MIN)
        self._drafters: dict[Request, _Drafter] = {}

    def add(self, request: Request) -> None:
        drafter = self._make_drafter(request)
        if drafter is not None:
            self._drafters[request] = drafter

    def remove(self, request: Request) -> None:
        self._drafters.pop(request, None)

    def counts(self, request: Request) -> DraftCounts:
        drafter = self._drafters.get(request)
        return DraftCounts() if drafter is None else drafter.counts

    def may_draft(self, batch: Batch) -> bool:
        """Whether `draft` has to be asked, for which all tokens so far must be known."""
        return self._draft_model is not None or bool(self._drafting(batch))

    def draft(self, batch: Batch, reserve: Reserve) -> Batch:
        """The same batch, some of its decode rows with a draft."""
        drafting = self._drafting(batch)
        allowance = self._allowance(batch) if drafting else 0
        drafts: dict[Request, list[int]] = {}
        lengths: dict[Request, int] = {}
        for request, drafter in drafting if allowance > 0 else []:
            # The last token that a request may put out needs no guess: the model gives one more than it accepts.
            max_tokens = min(allowance, request.max_tokens - len(request.output_token_ids) - 1)
            if draft := self._attempt(request, drafter.propose, max_tokens):
                drafts[request] = draft[: reserve(request, len(draft))]
            elif (length := drafter.model_draft_length(max_tokens)) and (room := reserve(request, length)):
                lengths[request] = room
        batch = _with_drafts(batch, drafts)
        if self._draft_model is None:
            return batch
        proposed = self._draft_model.propose(batch, lengths)
        for request, draft in proposed.items():
            drafts[request] = self._attempt(request, allowed_part, draft)
        return _with_drafts(batch, drafts)

    def note(self, scheduled: ScheduledRequest, num_accepted: int) -> None:
        """What became of a row's draft."""
        self._drafters[scheduled.request].note(len(scheduled.draft_token_ids), num_accepted)

    def _make_drafter(self, request: Request) -> _Drafter | None:
        if request.sampling.mirostat_target is not None and request.sampling.temperature > 0:
            return None  # each of its tokens changes how the next is chosen
        settings = self._settings
        sources: list[_Source] = []
        if request.prediction:
            acceptance = Acceptance(PREDICTION_LENGTH_MAX, VERIFY_COST)
            sources.append(_Source(PredictionProposer(request.prediction), acceptance, True))
        if settings.ngram_length:
            acceptance = Acceptance(settings.num_draft_tokens or DRAFT_LENGTH_DEFAULT, VERIFY_COST)
            ngram = NgramProposer(request.prompt_token_ids, settings.ngram_length)
            sources.append(_Source(ngram, acceptance, False))
        model_acceptance = None
        if self._draft_model is not None:
            cost = VERIFY_COST + self._draft_model.relative_cost
            model_acceptance = Acceptance(settings.num_draft_tokens or MODEL_DRAFT_LENGTH_DEFAULT, cost)
        return _Drafter(sources, model_acceptance) if sources or model_acceptance else None

    def _drafting(self, batch: Batch) -> list[tuple[Request, _Drafter]]:
        rows = [row.request for row in batch.scheduled if is_decode(row)] if self._drafters else []
        if len(rows) > ROWS_MAX:
            return []
        return [(request, self._drafters[request]) for request in rows if request in self._drafters]

    def _allowance(self, batch: Batch) -> int:
        """Draft tokens that each decode row may have."""
        num_scheduled = sum(row.num_tokens for row in batch.scheduled)
        num_logit_rows = sum(row.is_sampled for row in batch.scheduled)
        num_decodes = sum(map(is_decode, batch.scheduled))
        free = min(self._max_batch_tokens - num_scheduled, self._max_logit_rows - num_logit_rows)
        return free // num_decodes if num_decodes else 0

    def _attempt(self, request: Request, work: Callable[[Request, T], list[int]], argument: T) -> list[int]:
        try:
            return work(request, argument)
        except Exception:
            # A guess is never worth a request: it goes on without.
            logger.exception("drafting for request %s failed", request.request_id)
            self._drafters.pop(request, None)
            return []


def is_decode(row: ScheduledRequest) -> bool:
    return row.is_sampled and row.num_tokens == 1


def _with_drafts(batch: Batch, drafts: Mapping[Request, list[int]]) -> Batch:
    if not any(drafts.values()):
        return batch
    return Batch(
        [row._replace(draft_token_ids=drafts.get(row.request, row.draft_token_ids)) for row in batch.scheduled]
    )


def allowed_part(request: Request, draft: list[int]) -> list[int]:
    """The draft up to the first token that the request's constraint does not allow there."""
    constraint = request.constraint
    if constraint is None:
        return draft
    num_allowed = 0
    try:
        for token_id in draft:
            constraint.accept(token_id)
            num_allowed += 1
    except ValueError:
        pass
    finally:
        constraint.roll_back(num_allowed)
    return draft[:num_allowed]
