"""The grammar of an answer that must be JSON, or a sentence of the client's own grammar. Only writes Lark."""

from models.gbnf import GbnfError, gbnf_to_lark
from runtime.engine import RequestRefused
from runtime.message import FailureCode
from runtime.submission import GrammarConstraint, JsonConstraint


def write_answer_grammar(constraint: JsonConstraint | GrammarConstraint) -> str:
    """Raises RequestRefused."""
    match constraint:
        case JsonConstraint(schema=schema):
            return f"start: %json {schema}\n"
        case GrammarConstraint(gbnf=gbnf):
            try:
                return gbnf_to_lark(gbnf)
            except GbnfError as error:
                param = "response_format.grammar"
                raise RequestRefused(FailureCode.INVALID, f"{param}: {error}", param) from error
