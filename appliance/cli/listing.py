"""The options that every `hearth list …` takes."""

from typing import Annotated

import typer

Filter = Annotated[
    str, typer.Option("--filter", metavar="FILTER", help="For example 'state=READY AND displayName:blue'.")
]
OrderBy = Annotated[str, typer.Option("--order-by", metavar="FIELDS", help="For example 'createTime desc, name'.")]
