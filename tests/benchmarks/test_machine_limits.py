"""What the machine's limits are measured on."""

from benchmarks.machine_limits import Product, products

CONFIG = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 1000,
}


def test_products_that_read_the_same_input_are_one() -> None:
    layer = [Product(64, 64 + 2 * 32), Product(64, 64), Product(64, 2 * 96), Product(96, 64)]

    assert list(products(CONFIG)) == [*layer, *layer, Product(64, 1000)]


def test_heads_may_be_wider_than_the_hidden_states() -> None:
    assert list(products(CONFIG | {"head_dim": 32}))[:2] == [Product(64, 4 * 32 + 2 * 64), Product(128, 64)]
