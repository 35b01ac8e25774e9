"""The tree of words as typer's groups. A command is built when it is called, so that `hearth` starts at once.

Contexts, parameters and built commands are Any: typer does not export their types.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup
from typer.main import get_command

from appliance.cli.commands import Command, build_callback, help_text, shared_signature
from appliance.cli.grammar import Node, Words
from appliance.cli.words import plural

NAMED_AT_MOST = 12
"""Words in a message about a word that is none."""


class WordGroup(TyperGroup):
    """What may follow some words: all of it is understood, what is not hidden is shown."""

    def __init__(self, *, node: Node, words: Words = (), listed: Collection[str] = (), **attributes: Any) -> None:
        super().__init__(**attributes)
        self._node = node
        self._words = words
        self._listed = listed

    def list_commands(self, ctx: Any) -> list[str]:
        return [word for word, _ in self._node.shown()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        node = self._node.children.get(cmd_name)
        if node is None:
            return None
        if cmd_name not in self.commands:
            self.commands[cmd_name] = self._build(cmd_name, node)
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        word = args[0]
        if word not in self._node.children and not word.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(self._explain_unknown(word))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, rows in self.sections():
            width = formatter.width - 6 - max(len(word) for word, _ in rows)
            with formatter.section(title):
                formatter.write_dl([(word, _shortened(text, width)) for word, text in rows])

    def sections(self) -> Iterator[tuple[str, Sequence[tuple[str, str]]]]:
        """Titles, and the words under them with what they mean."""
        if rows := [(word, node.text) for word, node in self._node.shown()]:
            yield "Commands", rows

    def _build(self, word: str, node: Node) -> Any:
        if node.command is not None:
            return build_leaf(word, node.command, self._listed, node.is_hidden)
        return WordGroup(
            node=node,
            words=(*self._words, word),
            listed=self._listed,
            name=word,
            help=node.text,
            hidden=node.is_hidden,
            no_args_is_help=True,
            rich_markup_mode=None,
            params=shared_parameters(is_hidden=True),
        )

    def _explain_unknown(self, word: str) -> str:
        known = list(self._node.children)
        after = " ".join(("hearth", *self._words))
        if near := get_close_matches(word, known, n=3, cutoff=0.6):
            return f"`{after}` knows no {word!r}. Did you mean {' or '.join(near)}?"
        shown = [word for word, _ in self._node.shown()]
        if not self._words or len(shown) > NAMED_AT_MOST:
            return f"`{after}` knows no {word!r}. `{after} --help` shows what it knows."
        return f"`{after}` knows no {word!r}. It knows {', '.join(shown)}."


class RootGroup(WordGroup):
    """`hearth` itself: many words, in sections."""

    titles: ClassVar[Mapping[str, Sequence[str]]] = {}

    def get_params(self, ctx: Any) -> list[Any]:
        """Without a place in the help for what installs completion: `hearth completion` says how."""
        parameters = super().get_params(ctx)
        for parameter in parameters:
            if parameter.name in ("install_completion", "show_completion"):
                parameter.hidden = True  # type: ignore[attr-defined]  # they are options
        return parameters

    def sections(self) -> Iterator[tuple[str, Sequence[tuple[str, str]]]]:
        left = dict(self._node.shown())
        for title, words in self.titles.items():
            if rows := [(word, left.pop(word).text) for word in words if word in left]:
                yield title, rows
        if left:
            yield "More", [(word, node.text) for word, node in left.items()]


def root_group(tree: Node, sections: Mapping[str, Sequence[str]], listed: Collection[str]) -> type[RootGroup]:
    """The class that typer makes the outermost group of."""

    class Hearth(RootGroup):
        titles = sections

        def __init__(self, **attributes: Any) -> None:
            super().__init__(node=tree, listed=listed, **attributes)

    return Hearth


def build_leaf(word: str, command: Command, listed: Collection[str] = (), is_hidden: bool = False) -> Any:
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    text = help_text(command.run, command.examples)
    app.command(word, help=text, hidden=is_hidden)(build_callback(command, listed))
    return get_command(app)


def shared_parameters(is_hidden: bool) -> list[Any]:
    """The options that may stand before the verb."""

    def accept(**_: object) -> None: ...

    accept.__signature__ = signature = shared_signature()  # type: ignore[attr-defined]
    accept.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    app = typer.Typer(add_completion=False)
    app.command()(accept)
    parameters = [parameter for parameter in get_command(app).params if parameter.name != "help"]
    for parameter in parameters:
        parameter.hidden = is_hidden  # type: ignore[attr-defined]  # all of them are options
    return parameters


def listed_nouns(commands: Collection[Command]) -> frozenset[str]:
    return frozenset(plural(command.noun) for command in commands if command.noun and command.verb == "list")


def _shortened(text: str, width: int) -> str:
    """The first sentence, cut at a word."""
    sentence = text.partition(". ")[0].rstrip(".")
    if len(sentence) <= width:
        return sentence
    return f"{sentence[: max(width - 1, 1)].rpartition(' ')[0]}…"
