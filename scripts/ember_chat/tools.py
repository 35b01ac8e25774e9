"""Tool conversations: what the client offers, what the user asks, the call, the tool's result and the final answer.

Tool and parameter names vary, so that the model learns to copy them from the prompt.
Identifiers and requests kept for the evaluation are never trained.
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
    """A function that clients may offer, under several names."""

    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    parameters: dict[str, tuple[str, ...]]
    """Slot of the requests → names that clients may give the parameter."""
    requests: tuple[str, ...]
    """The last one is never trained."""
    command: str
    """What to run by hand where no tool is offered."""


_DEPLOYMENT = ("deployment", "name")
STATUS = Tool(
    ("get_deployment_status", "deployment_status", "check_deployment", "get_deployment"),
    ("Get the state of a deployment.", "Look up one deployment.", "Tell how a deployment is doing."),
    {"deployment": _DEPLOYMENT},
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
        "What is the state of {deployment}?",
        "Check the status of deployment {deployment}.",
    ),
    "hearth get deployment {deployment}",
)
SCALE = Tool(
    ("scale_deployment", "set_replicas", "resize_deployment"),
    ("Set the number of replicas of a deployment.", "Scale a deployment.", "Change how many replicas run."),
    {"deployment": _DEPLOYMENT, "replicas": ("replicas", "replica_count", "count")},
    (
        "Scale {deployment} to {replicas} replicas.",
        "Give {deployment} {replicas} replicas.",
        "Set {deployment} to {replicas} replicas.",
        "Scale the deployment {deployment} to {replicas}.",
        "Run {replicas} replicas of {deployment}.",
        "I want {replicas} replicas of {deployment}.",
        "Please scale deployment {deployment} to {replicas} replicas.",
        "Set the deployment {deployment} to {replicas} replicas.",
    ),
    "hearth scale deployment {deployment} --replica-count {replicas}",
)
LIST_MODELS = Tool(
    ("list_models", "get_models", "show_models"),
    ("List the models.", "List every model of the account.", "Show which models there are."),
    {},
    (
        "Use the tool to list the models.",
        "List the models.",
        "List all models for me.",
        "Look up the models.",
        "Show the models.",
        "Look up which models I have.",
        "Look up all models for me.",
    ),
    "hearth list models",
)
LIST_DEPLOYMENTS = Tool(
    ("list_deployments", "get_deployments", "show_deployments"),
    ("List the deployments.", "List every deployment of the account.", "Show which deployments there are."),
    {},
    (
        "Use the tool to list the deployments.",
        "List the deployments.",
        "List all deployments for me.",
        "Look up the deployments.",
        "Show the deployments.",
        "Look up which deployments I have.",
        "Look up all deployments for me.",
    ),
    "hearth list deployments",
)
DELETE = Tool(
    ("delete_deployment", "remove_deployment"),
    ("Delete a deployment.", "Remove a deployment for good."),
    {"deployment": _DEPLOYMENT},
    (
        "Delete {deployment}.",
        "Delete the deployment {deployment}.",
        "Remove {deployment}.",
        "Please remove the deployment {deployment}.",
        "Get rid of {deployment}.",
        "Please delete deployment {deployment}.",
    ),
    "hearth delete deployment {deployment}",
)
CREATE = Tool(
    ("create_deployment", "deploy_model"),
    ("Create a deployment of a model.", "Deploy a model.", "Start to serve a model."),
    {"model": ("model", "model_id", "base_model")},
    (
        "Deploy the model {model}.",
        "Deploy {model}.",
        "Create a deployment of {model}.",
        "Serve the model {model}.",
        "Start serving {model}.",
        "Please deploy the model {model}.",
        "Create a deployment of the model {model}.",
    ),
    "hearth create deployment {model}",
)
TOOLS = (STATUS, SCALE, LIST_MODELS, LIST_DEPLOYMENTS, DELETE, CREATE)


class Offer(NamedTuple):
    """A tool as one client spells it."""

    tool: Tool
    name: str
    description: str
    parameters: dict[str, str]
    """Slot → parameter name."""

    def schema(self, rng: random.Random) -> dict[str, object]:
        properties: dict[str, object] = {}
        for slot, parameter in self.parameters.items():
            shape = {"type": "integer" if slot == "replicas" else "string"}
            if rng.random() < 0.2:
                shape["description"] = f"The {slot}."
            properties[parameter] = shape
        parameters: dict[str, object] = {"type": "object", "properties": properties}
        if properties or rng.random() < 0.5:
            parameters["required"] = list(properties)
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


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


def draw_offers(rng: random.Random) -> list[Offer]:
    """Some of the tools, in any order, each under one of its names."""
    chosen = rng.sample(TOOLS, rng.choice((1, 2, 2, 3, 3, 4)))
    return [
        Offer(
            tool,
            rng.choice(tool.names),
            tool.descriptions[0],
            {slot: rng.choice(names) for slot, names in tool.parameters.items()},
        )
        for tool in chosen
    ]


def draw_task(rng: random.Random, offer: Offer, is_held_out: bool = False) -> ToolTask:
    tool = offer.tool
    slots: Arguments = {slot: _draw_value(rng, slot, is_held_out) for slot in tool.parameters}
    request = tool.requests[-1] if is_held_out else rng.choice(tool.requests[:-1])
    result, answer = _draw_result(rng, tool, slots, is_held_out)
    return ToolTask(
        request.format(**slots),
        offer.name,
        {offer.parameters[slot]: value for slot, value in slots.items()},
        json.dumps(result),
        answer,
        f"I have no tool for that. Run `{tool.command.format(**slots)}`.",
    )


def _draw_value(rng: random.Random, slot: str, is_held_out: bool) -> str | int:
    return rng.randint(0, 16) if slot == "replicas" else draw_identifier(rng, is_held_out)


def _draw_result(
    rng: random.Random, tool: Tool, slots: Arguments, is_held_out: bool
) -> tuple[dict[str, object] | list[str], str]:
    """What the tool sends back, and the sentence to make of it."""
    if rng.random() < 0.1:
        problem = rng.choice(_PROBLEMS)
        return {"error": problem}, f"That did not work: {problem}."
    if tool is LIST_MODELS or tool is LIST_DEPLOYMENTS:
        noun = "model" if tool is LIST_MODELS else "deployment"
        names = [draw_identifier(rng, is_held_out) for _ in range(rng.randint(1, 4))]
        return {f"{noun}s": names}, _say_list(noun, names)
    if tool is CREATE:
        deployment = draw_identifier(rng, is_held_out)
        return {"deployment": deployment, "state": "CREATING"}, f"The deployment {deployment} is being created."
    deployment = str(slots["deployment"])
    if tool is DELETE:
        return {"deployment": deployment, "state": "DELETED"}, f"The deployment {deployment} is deleted."
    if tool is SCALE:
        count = int(slots["replicas"])
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
    return f"There are {len(names)} {noun}s: {', '.join(names[:-1])} and {names[-1]}."
