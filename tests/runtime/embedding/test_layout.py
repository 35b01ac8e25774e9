import torch

from runtime.embedding.layout import Layout

CPU = torch.device("cpu")


def test_texts_of_like_length_form_a_run_and_others_one_of_their_own() -> None:
    layout = Layout([200, 190, 90, 20, 5, 4], CPU)
    assert [(run.start, run.stop, run.num_texts, run.longest) for run in layout.runs] == [
        (0, 390, 2, 200),
        (390, 480, 1, 90),
        (480, 509, 3, 20),
    ]
    assert [run.is_even for run in layout.runs] == [False, True, False]


def test_places_hold_each_token_once_and_padding_shows_the_texts_first() -> None:
    run = Layout([3, 2, 1], CPU).runs[0]
    assert run.kept.tolist() == [[True, True, True], [True, True, False], [True, False, False]]
    assert run.places.tolist() == [[0, 1, 2], [3, 4, 3], [5, 5, 5]]
    assert run.places[run.kept].tolist() == [0, 1, 2, 3, 4, 5]


def test_masks_hide_padding_what_lies_ahead_and_what_is_out_of_the_window() -> None:
    run = Layout([4, 3], CPU).runs[0]
    assert run.mask(is_causal=True, window=None) is None, "padding lies where nobody looks"
    hidden = run.mask(is_causal=False, window=None)
    assert hidden is not None
    assert hidden[:, 0, 0].tolist() == [[True] * 4, [True, True, True, False]]
    window = run.mask(is_causal=False, window=2)
    assert window is not None
    assert window[1, 0].int().tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    behind = run.mask(is_causal=True, window=2)
    assert behind is not None
    assert behind[0, 0].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    assert run.mask(is_causal=False, window=4) is run.mask(is_causal=False, window=4), "made once for all layers"
    assert Layout([3, 3], CPU).runs[0].mask(is_causal=False, window=None) is None


def test_places_and_positions_of_the_whole_step() -> None:
    layout = Layout([3, 1, 1], CPU)
    assert layout.first_places.tolist() == [0, 3, 4]
    assert layout.last_places.tolist() == [2, 3, 4]
    assert layout.positions.tolist() == [0, 1, 2, 0, 0]
    assert layout.owners.tolist() == [0, 0, 0, 1, 2]
