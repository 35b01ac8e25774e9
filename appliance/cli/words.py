"""How a noun is spelled: in singular and plural on the command line, and as a collection in the API. Pure."""

import re

UNCOUNTABLE = {"billing", "usage"}


def plural(noun: str) -> str:
    if noun in UNCOUNTABLE or noun.endswith("s"):
        return noun
    return f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeou" else f"{noun}s"


def spellings(noun: str) -> set[str]:
    """Singular and plural, whichever of them it is."""
    return {noun, plural(noun), noun.removesuffix("s")}


def collection_of(noun: str) -> str:
    """`deployed-model` as the API has it: `deployedModels`."""
    head, *tail = plural(noun).split("-")
    return head + "".join(word.capitalize() for word in tail)


def noun_of(collection: str) -> str:
    """`deployedModels` as a plural noun: `deployed-models`."""
    return re.sub(r"(?=[A-Z])", "-", collection).lower()
