import json
import random

import numpy as np
import pytest

from tests.runtime.llm.grammar.walking import END_TOKEN_ID, TOKENIZER, VOCAB_SIZE, allowed, begin, tokens_of

OBJECT = 'start: %json {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}'


def test_nothing_but_the_end_may_follow_a_whole_sentence() -> None:
    matcher = begin('start: "ab"')
    for token_id in tokens_of("ab"):
        assert not matcher.is_complete
        matcher.accept(token_id)
    assert matcher.is_complete
    assert allowed(matcher) == [END_TOKEN_ID]


def test_the_end_may_come_where_a_sentence_may_go_on() -> None:
    matcher = begin('start: "a"+')
    matcher.accept(tokens_of("a")[0])
    assert not matcher.is_complete
    assert END_TOKEN_ID in allowed(matcher)
    matcher.accept(END_TOKEN_ID)
    assert matcher.is_complete


def test_a_refused_token_changes_nothing() -> None:
    matcher = begin('start: "a" "b"')
    [a], [b] = tokens_of("a"), tokens_of("b")
    with pytest.raises(ValueError, match="does not allow token"):
        matcher.accept(b)
    matcher.accept(a)
    matcher.accept(b)
    with pytest.raises(ValueError, match="complete"):
        matcher.accept(a)
    matcher.accept(END_TOKEN_ID)


@pytest.mark.parametrize("lark", ['start: "ab"', "start: /[ab]+/", OBJECT])
def test_what_is_rolled_back_never_was(lark: str) -> None:
    for seed in range(10):
        rng = random.Random(seed)
        matcher, accepted = begin(lark), list[int]()
        for _ in range(25):
            if accepted and rng.random() < 0.4:
                num_tokens = rng.randint(1, min(4, len(accepted)))
                matcher.roll_back(num_tokens)
                del accepted[-num_tokens:]
            accepted.append(rng.choice(allowed(matcher)))
            matcher.accept(accepted[-1])
        fresh = begin(lark)
        for token_id in accepted:
            fresh.accept(token_id)
        assert allowed(fresh) == allowed(matcher), seed
        assert fresh.is_complete == matcher.is_complete


def test_tokens_beyond_the_tokenizer_may_never_come() -> None:
    matcher = begin("start: /(?s:.*)/")
    mask = np.full(-(-VOCAB_SIZE // 32) + 3, -1, dtype=np.int32)
    assert matcher.fill_mask(mask)
    choices = [int(i) for i in np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))]
    assert max(choices) < VOCAB_SIZE - 20
    assert 0 not in choices  # a special token that is not the end


def test_every_choice_of_a_call_goes_its_own_way() -> None:
    compiled = TOKENIZER.compile('%llguidance {"no_forcing": true}\n' + OBJECT)
    first, second = compiled.deep_copy(), compiled.deep_copy()
    assert first.consume_tokens(tokens_of(json.dumps({"a": 1})))
    assert first.is_stopped()
    assert second.consume_tokens(tokens_of('{"a"'))
    assert not compiled.is_accepting()
