"""Which words lead to which command: both word orders, singular and plural, irregular names. Pure.

`create deployment`, `deployment create`, `deployments create` and `create deployments` are one command.
"""

from collections.abc import Iterable, Iterator, Mapping

from appliance.cli.commands import Command
from appliance.cli.words import plural, spellings

Words = tuple[str, ...]


class Node:
    """What may follow some words: other words, or, at the end of them, a command."""

    def __init__(self, text: str = "", is_hidden: bool = False) -> None:
        self.text = text
        self.is_hidden = is_hidden
        """Understood, but not shown: the other spelling of what is shown."""
        self.command: Command | None = None
        self.children: dict[str, Node] = {}

    def shown(self) -> Iterator[tuple[str, "Node"]]:
        return ((word, node) for word, node in self.children.items() if not node.is_hidden)

    def leaf(self, words: Words, command: Command, is_hidden: bool) -> None:
        """Make `words` lead to a command. What they led to before, they lead to still: the first one stays."""
        node = self
        for word in words[:-1]:
            node = node.children.setdefault(word, Node(is_hidden=True))
        if words[-1] not in node.children:
            child = node.children[words[-1]] = Node(summary(command), is_hidden)
            child.command = command


def plant(commands: Iterable[Command], verbs: Mapping[str, str], nouns: Mapping[str, str]) -> Node:
    """The tree of all words. A verb that is none of `verbs` belongs to one noun, and is shown there alone."""
    commands = list(commands)
    root = Node()
    for command in commands:
        if command.noun is None:
            root.leaf((command.verb,), command, is_hidden=False)
    for verb, text in verbs.items():
        root.children.setdefault(verb, Node(text))
    for noun, text in nouns.items():
        for spelling in sorted(spellings(noun), key=lambda word: word != noun):
            root.children.setdefault(spelling, Node(text, is_hidden=spelling != noun))
    for command in commands:
        for words, is_hidden in paths(command):
            root.leaf(words, command, is_hidden)
    return root


def paths(command: Command) -> Iterator[tuple[Words, bool]]:
    """Every way to say it, and whether that is left out of the help."""
    if command.noun is not None:
        usual = plural(command.noun) if command.verb == "list" else command.noun
        for noun in spellings(command.noun):
            yield (noun, command.verb), False
            yield (command.verb, noun), noun != usual
    for line in command.also:
        words = tuple(line.split())
        yield words, len(words) == 1


def summary(command: Command) -> str:
    """The first line of what is said of it."""
    return (command.run.__doc__ or "").strip().partition("\n")[0]
