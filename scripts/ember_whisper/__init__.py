"""Trains ember-whisper, the speech model that comes with Hearth, from random weights on speech of espeak-ng.

    .venv/bin/python -m scripts.ember_whisper

rebuilds models/builtin/ember_whisper in about an hour on two cores; it needs the espeak-ng library. It knows English
digits and a small vocabulary of commands. At the end it hears voices and speeds that it was not trained on and prints
the shares of wrong words as one JSON line; above 10 % nothing is written. `--output FOLDER` leaves the committed model
alone.
"""
