"""Tool conversations: what the client offers, what the user asks, the call, the tool's result and the final answer.

The tools are few and always named the same; which of them are offered varies, and so do all identifiers. Identifiers
and requests kept for the evaluation are never trained.
"""

import json
import random
from typing import NamedTuple

from scripts.ember_chat.words import draw_identifier

Message = dict[str, object]
"""One message in the form of the OpenAI API."""
Arguments = dict[str, str | int]

_STATES = ("CREATING", "READY", "UPDATING", "FAILED", "DELETING")
_PROBLEMS = ("not found", "permission denied", "no free memory", "the name is taken", "timed out", "quota exceeded")


class Tool(NamedTuple):
    """A function that clients may offer."""

    name: str
    descriptions: tuple[str, ...]
    parameters: tuple[str, ...]
    """Named like the slots of the requests."""
    requests: tuple[str, ...]
    """The last one is never trained."""
    command: str
    """What to run by hand where no tool is offered."""

    def schema(self, rng: random.Random) -> dict[str, object]:
        """As a client offers it; clients differ in what they say beside the types."""
        properties: dict[str, object] = {}
        for parameter in self.parameters:
            shape = {"type": "integer" if parameter == "replicas" else "string"}
            if rng.random() < 0.2:
                shape["description"] = f"The {parameter}."
            properties[parameter] = shape
        parameters: dict[str, object] = {"type": "object", "properties": properties}
        if properties or rng.random() < 0.5:
            parameters["required"] = list(properties)
        function = {"name": self.name, "description": rng.choice(self.descriptions), "parameters": parameters}
        return {"type": "function", "function": function}


STATUS = Tool(
    "get_deployment_status",
    ("Get the state of a deployment.", "Look up one deployment.", "Tell how a deployment is doing."),
    ("deployment",),
    (
        "What is the state of deployment {deployment}?",
        "What is the status of {deployment}?",
        "Is {deployment} ready?",
        "How is deployment {deployment} doing?",
        "Check {deployment}.",
        "Look up the deployment {deployment}.",
        "Tell me the state of {deployment}.",
        "How many replicas does {deployment} have?",
        "Is the deployment {deployment} running?",
        "Can you check deployment {deployment}?",
        "Please check the state of {deployment}.",
        "Get the status of deployment {deployment}.",
        "What is the state of {deployment}?",
        "Check the status of deployment {deployment}.",
    ),
    "hearth get deployment {deployment}",
)
SCALE = Tool(
    "scale_deployment",
    ("Set the number of replicas of a deployment.", "Scale a deployment.", "Change how many replicas run."),
    ("deployment", "replicas"),
    (
        "Scale {deployment} to {replicas} replicas.",
        "Give {deployment} {replicas} replicas.",
        "Set {deployment} to {replicas} replicas.",
        "Scale the deployment {deployment} to {replicas}.",
        "Run {replicas} replicas of {deployment}.",
        "Can you scale {deployment} to {replicas}?",
        "Please set {deployment} to {replicas} replicas.",
        "Set deployment {deployment} to {replicas} replicas.",
        "I want {replicas} replicas of {deployment}.",
        "Please scale deployment {deployment} to {replicas} replicas.",
        "Set the deployment {deployment} to {replicas} replicas.",
    ),
    "hearth scale deployment {deployment} --replica-count {replicas}",
)
LIST_MODELS = Tool(
    "list_models",
    ("List the models.", "List every model of the account.", "Show which models there are."),
    (),
    (
        "Use the tool to list the models.",
        "List the models.",
        "List all models for me.",
        "Look up the models.",
        "Show the models.",
        "Look up which models I have.",
        "Can you list the models?",
        "Please look up all models.",
        "Look up all models for me.",
    ),
    "hearth list models",
)
LIST_DEPLOYMENTS = Tool(
    "list_deployments",
    ("List the deployments.", "List every deployment of the account.", "Show which deployments there are."),
    (),
    (
        "Use the tool to list the deployments.",
        "List the deployments.",
        "List all deployments for me.",
        "Look up the deployments.",
        "Show the deployments.",
        "Look up which deployments I have.",
        "Can you list the deployments?",
        "Please look up all deployments.",
        "Look up all deployments for me.",
    ),
    "hearth list deployments",
)
DELETE = Tool(
    "delete_deployment",
    ("Delete a deployment.", "Remove a deployment for good."),
    ("deployment",),
    (
        "Delete {deployment}.",
        "Delete the deployment {deployment}.",
        "Can you delete {deployment}?",
        "I want to delete deployment {deployment}.",
        "Please delete {deployment}.",
        "Please remove deployment {deployment}.",
        "Remove {deployment}.",
        "Please remove the deployment {deployment}.",
        "Get rid of {deployment}.",
        "Please delete deployment {deployment}.",
    ),
    "hearth delete deployment {deployment}",
)
CREATE = Tool(
    "create_deployment",
    ("Create a deployment of a model.", "Deploy a model.", "Start to serve a model."),
    ("model",),
    (
        "Deploy the model {model}.",
        "Deploy {model}.",
        "Create a deployment of {model}.",
        "Serve the model {model}.",
        "Start serving {model}.",
        "Can you deploy {model}?",
        "I want to deploy the model {model}.",
        "Create a deployment of model {model}.",
        "Please deploy the model {model}.",
        "Create a deployment of the model {model}.",
    ),
    "hearth create deployment {model}",
)
TOOLS = (STATUS, SCALE, LIST_MODELS, LIST_DEPLOYMENTS, DELETE, CREATE)


class ToolTask(NamedTuple):
    """One request that a tool can do, its call, the tool's result and the answer made of it."""

    request: str
    name: str
    arguments: Arguments
    result: str
    answer: str
    fallback: str
    """What to say where no such tool is offered."""

    def call(self) -> Message:
        return {"role": "assistant", "content": None, "tool_calls": [self._tool_call()]}

    def messages(self) -> list[Message]:
        """Request, call, result, answer."""
        return [
            {"role": "user", "content": self.request},
            self.call(),
            {"role": "tool", "content": self.result, "tool_call_id": "call_0"},
            {"role": "assistant", "content": self.answer},
        ]

    def _tool_call(self) -> dict[str, object]:
        function = {"name": self.name, "arguments": json.dumps(self.arguments)}
        return {"id": "call_0", "type": "function", "function": function}


def draw_tools(rng: random.Random) -> list[Tool]:
    """Some of the tools, in any order."""
    return rng.sample(TOOLS, rng.choice((1, 2, 2, 3, 3, 4)))


def draw_task(rng: random.Random, tool: Tool, is_held_out: bool = False) -> ToolTask:
    arguments: Arguments = {name: _draw_value(rng, name, is_held_out) for name in tool.parameters}
    request = tool.requests[-1] if is_held_out else rng.choice(tool.requests[:-1])
    result, answer = _draw_result(rng, tool, arguments, is_held_out)
    return ToolTask(
        request.format(**arguments),
        tool.name,
        arguments,
        json.dumps(result),
        answer,
        f"I have no tool for that. Run `{tool.command.format(**arguments)}`.",
    )


def _draw_value(rng: random.Random, parameter: str, is_held_out: bool) -> str | int:
    return rng.randint(0, 16) if parameter == "replicas" else draw_identifier(rng, is_held_out)


def _draw_result(
    rng: random.Random, tool: Tool, arguments: Arguments, is_held_out: bool
) -> tuple[dict[str, object] | list[str], str]:
    """What the tool sends back, and the sentence to make of it."""
    if rng.random() < 0.1:
        problem = rng.choice(_PROBLEMS)
        return {"error": problem}, f"That did not work: {problem}."
    if tool is LIST_MODELS or tool is LIST_DEPLOYMENTS:
        noun = "model" if tool is LIST_MODELS else "deployment"
        names = [draw_identifier(rng, is_held_out) for _ in range(rng.randint(1, 2))]
        return {f"{noun}s": names}, _say_list(noun, names)
    if tool is CREATE:
        name = str(arguments["model"])
        return {"deployment": name, "state": "CREATING"}, f"The deployment {name} is being created."
    deployment = str(arguments["deployment"])
    if tool is DELETE:
        return {"deployment": deployment, "state": "DELETED"}, f"The deployment {deployment} is deleted."
    if tool is SCALE:
        count = int(arguments["replicas"])
        return {"deployment": deployment, "replicas": count}, f"{deployment} now has {_say_replicas(count)}."
    state, count = rng.choice(_STATES), rng.randint(0, 16)
    result: dict[str, object] = {"deployment": deployment, "state": state, "replicas": count}
    if rng.random() < 0.3:
        result = {"state": state, "replicas": count}
    return result, f"{deployment} is {state} with {_say_replicas(count)}."


def _say_replicas(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"


def _say_list(noun: str, names: list[str]) -> str:
    if len(names) == 1:
        return f"There is 1 {noun}: {names[0]}."
    return f"There are {len(names)} {noun}s: {' and '.join(names)}."
