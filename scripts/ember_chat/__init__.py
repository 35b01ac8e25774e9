"""Trains ember-chat, the model that comes with Hearth, from random weights on a corpus that it generates itself.

    .venv/bin/python -m scripts.ember_chat

rebuilds models/builtin/ember_chat in a few minutes on two cores: it draws the corpus from texts/*.toml, trains the
tokenizer and the weights, asks the held-out questions, and prints the shares of right answers as one JSON line. Below
90 % nothing is written. `--show-wrong` prints every wrong answer, `--output FOLDER` leaves the committed model alone.
"""

from scripts.ember_chat.facts import Question, held_out_questions

__all__ = ["Question", "held_out_questions"]
