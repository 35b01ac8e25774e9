from runtime.embedding.pace import RETRY_AFTER_MAX_S, RETRY_AFTER_MIN_S, STEP_S, STEP_TOKENS_MIN, Pace


def test_a_fast_device_is_given_whole_steps_and_a_slow_one_short_ones() -> None:
    fast, slow = Pace(16384), Pace(16384)
    assert fast.step_tokens() == STEP_TOKENS_MIN, "nothing is known yet"
    fast.note_step(512, 0.001)
    slow.note_step(4096, 1.0)
    assert fast.step_tokens() == 16384
    assert slow.step_tokens() == int(4096 * STEP_S)
    slow.note_step(10, 100.0)
    assert slow.step_tokens() == STEP_TOKENS_MIN
    assert Pace(64).step_tokens() == 64


def test_who_is_refused_is_told_how_long_the_queue_takes() -> None:
    pace = Pace(1024)
    assert pace.retry_after_s(10**6) == RETRY_AFTER_MIN_S
    pace.note_step(1000, 1.0)
    assert pace.retry_after_s(20_000) == 20.0
    assert pace.retry_after_s(10) == RETRY_AFTER_MIN_S
    assert pace.retry_after_s(10**9) == RETRY_AFTER_MAX_S


def test_a_step_is_taken_to_be_slow_until_the_contrary_was_seen() -> None:
    pace = Pace(16384)
    assert pace.expected_s(5000) == 5.0
    pace.note_step(1000, 0.1)
    assert pace.expected_s(5000) == 0.5
