import random

import torch

from scripts.ember_chat.tokenizer import Sample
from scripts.ember_chat.training import (
    BATCH_TOKENS,
    ROW_LENGTHS,
    build_model,
    learning_rate_factor,
    loss_of,
    pack,
    train,
)
from tests.scripts.ember_chat.tiny_llama import tiny_llama


def sample(length: int, rng: random.Random) -> Sample:
    return Sample([rng.randrange(2, 64) for _ in range(length)], [index > 1 for index in range(length)])


def test_packing_keeps_every_conversation_once_and_whole() -> None:
    rng = random.Random(0)
    samples = [sample(rng.randint(3, ROW_LENGTHS[-1]), rng) for _ in range(200)]
    packed = []
    for batch in pack(samples, random.Random(1)):
        assert batch.token_ids.numel() <= BATCH_TOKENS
        for token_ids, conversation, position_ids in zip(
            batch.token_ids, batch.conversation, batch.position_ids, strict=True
        ):
            for index in conversation.unique().tolist():
                if index >= 0:
                    members = conversation == index
                    packed.append(token_ids[members].tolist())
                    assert position_ids[members].tolist() == list(range(int(members.sum())))
    assert sorted(packed) == sorted(sample.token_ids for sample in samples)


def test_conversations_longer_than_any_row_are_left_out() -> None:
    assert not list(pack([sample(ROW_LENGTHS[-1] + 1, random.Random(0))], random.Random(0)))


def test_a_conversation_does_not_see_its_neighbours_in_the_row() -> None:
    torch.manual_seed(0)
    rng = random.Random(0)
    model = tiny_llama(vocab_size=64)
    model.set_attn_implementation("eager")
    first, second = sample(20, rng), sample(30, rng)
    (together,) = pack([first, second], rng)
    (alone_first,), (alone_second,) = list(pack([first], rng)), list(pack([second], rng))
    # 18 and 28 learned tokens share the mean.
    expected = (18 * loss_of(model, alone_first) + 28 * loss_of(model, alone_second)) / 46
    torch.testing.assert_close(loss_of(model, together), expected, rtol=2e-2, atol=2e-2)


def test_the_model_has_about_three_million_parameters() -> None:
    model = build_model(vocab_size=2048, pad_token_id=0, eos_token_id=1)
    assert 2_500_000 < sum(parameter.numel() for parameter in model.parameters()) < 3_500_000


def test_the_learning_rate_rises_and_falls_to_zero() -> None:
    factors = [learning_rate_factor(step, 1000) for step in range(1001)]
    assert factors.index(max(factors)) < 25
    assert factors[-1] == 0


def test_training_learns_a_short_corpus_by_heart() -> None:
    torch.manual_seed(0)
    rng = random.Random(0)
    model = tiny_llama(vocab_size=64, hidden_size=64)
    samples = [sample(12, rng) for _ in range(10)] * 1000
    losses: list[float] = []
    train(model, samples, rng, lambda step, num_steps, loss, tokens_per_s: losses.append(loss))
    assert losses[0] > 3
    assert losses[-1] < losses[0] / 2
