"""What the clients say to ember-chat: questions it was not trained on, a tool it can call, a schema it can fill."""

from typing import Any

from pydantic import BaseModel

QUESTION: Any = [{"role": "user", "content": "What is Hearth?"}]
JSON_QUESTION: Any = [{"role": "user", "content": "What is the capital of France? Answer in JSON."}]
CALL_QUESTION: Any = [{"role": "user", "content": "What is the state of deployment blue-fox?"}]
STATUS_TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_deployment_status",
        "description": "Get the state of a deployment.",
        "parameters": {
            "type": "object",
            "properties": {"deployment": {"type": "string"}},
            "required": ["deployment"],
        },
    },
}
CALL = {"name": "get_deployment_status", "arguments": {"deployment": "blue-fox"}}
YES_OR_NO = 'root ::= "yes" | "no"'


class Capital(BaseModel):
    country: str
    capital: str


FRANCE = Capital(country="France", capital="Paris")


def anthropic_tool(tool: Any) -> dict[str, Any]:
    """The same in Anthropic's form."""
    function = tool["function"]
    return {
        "name": function["name"],
        "description": function["description"],
        "input_schema": function["parameters"],
    }
