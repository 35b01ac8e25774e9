import pytest

from runtime.engine import RequestRefused
from runtime.llm.admission import RETRY_AFTER_MAX_S, RETRY_AFTER_MIN_S, WINDOW_S, Admission
from runtime.llm.backlog import Backlog, BacklogLimits
from runtime.llm.request import Batch, Request, ScheduledRequest
from runtime.message import FailureCode
from tests.fakes.scripted_runner import make_request


def request(num_tokens: int, tenant: str = "") -> Request:
    made = make_request([0] * num_tokens)
    made.tenant = tenant
    made.num_queued_tokens = num_tokens
    return made


def step(num_prompt_tokens: int, num_decodes: int = 0) -> Batch:
    decodes = [ScheduledRequest(request(5), 1, True) for _ in range(num_decodes)]
    return Batch(
        [*decodes, ScheduledRequest(request(2000), num_prompt_tokens, False)] if num_prompt_tokens else decodes
    )


@pytest.fixture
def backlog() -> Backlog:
    return Backlog(BacklogLimits(4, 100_000))


@pytest.fixture
def admission(backlog: Backlog) -> Admission:
    return Admission(backlog)


def test_a_tenant_that_fills_its_share_is_limited_and_a_full_queue_is_overloaded(
    backlog: Backlog, admission: Admission
) -> None:
    for tenant, code in [("a", FailureCode.RATE_LIMITED), ("c", FailureCode.OVERLOADED)]:
        for other in ("a", "b"):
            if backlog.of(other).num_requests < 2:
                backlog.enter(request(1, tenant))
                backlog.enter(request(1, other))
        with pytest.raises(RequestRefused) as refusal:
            admission.check([request(1, tenant)])
        assert (refusal.value.code, refusal.value.retry_after_s) == (code, RETRY_AFTER_MIN_S)


def test_waiting_lasts_as_long_as_the_prompts_before_take_to_compute(backlog: Backlog, admission: Admission) -> None:
    backlog.enter(request(4000))
    for _ in range(10):
        admission.note_step(step(100, num_decodes=3), 0.5)
    assert admission.retry_after_s() == pytest.approx(4000 / 200)


def test_steps_without_prompts_make_the_queue_slower(backlog: Backlog, admission: Admission) -> None:
    backlog.enter(request(400))
    admission.note_step(step(100), 0.5)
    admission.note_step(step(0, num_decodes=3), 1.5)
    # The first step lies a little back.
    assert 8.0 < admission.retry_after_s() < 9.0


def test_the_estimate_follows_a_change_within_the_window(backlog: Backlog, admission: Admission) -> None:
    backlog.enter(request(100))
    for _ in range(100):
        admission.note_step(step(10), 1.0)
    slow_s = admission.retry_after_s()
    for _ in range(int(3 * WINDOW_S)):
        admission.note_step(step(50), 1.0)
    assert slow_s == pytest.approx(10)
    assert admission.retry_after_s() == pytest.approx(2, rel=0.1)


def test_the_estimate_stays_in_what_clients_heed(backlog: Backlog, admission: Admission) -> None:
    assert admission.retry_after_s() == RETRY_AFTER_MIN_S
    admission.note_step(step(1), 1000.0)
    backlog.enter(request(99_999))
    assert admission.retry_after_s() == RETRY_AFTER_MAX_S
