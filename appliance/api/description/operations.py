"""One route as an operation: what it is for, what it takes, what it answers."""

import inspect
from typing import Any

import msgspec

from appliance.api.auth import WITHOUT_KEY
from appliance.api.description.errors import error_responses
from appliance.api.description.examples import EXAMPLES
from appliance.api.description.headers import OF_EVERY_ANSWER, OF_INFERENCE
from appliance.api.description.links import links_of
from appliance.api.description.parameters import parameters_of
from appliance.api.description.schemas import Schemas
from appliance.api.routing import Content, Permission, Route

JSON = "application/json"
EVENTS = "text/event-stream"
_FILE = {"type": "string", "contentMediaType": "application/octet-stream"}


class Operations:
    def __init__(self, schemas: Schemas, routes: list[Route], ids: dict[tuple[str, str], str]) -> None:
        self._schemas = schemas
        self._routes = routes
        self._ids = ids

    @staticmethod
    def tag(module: str) -> str:
        """Of the resource whose module this is."""
        return module.rpartition(".")[2].replace("_", " ").capitalize()

    def describe(self, route: Route) -> dict[str, Any]:
        summary, _, more = (inspect.getdoc(route.handler) or "").partition("\n")
        operation: dict[str, Any] = {
            "operationId": self._ids[route.method, route.path],
            "tags": [self.tag(route.handler.__module__)],
            "summary": summary,
            "parameters": parameters_of(route, self._schemas),
            "security": [] if route.permission in WITHOUT_KEY else [{"key": []}, {"keyHeader": []}],
            "x-hearth-permission": route.permission,
            "responses": {"200": self._success(route), **error_responses(route)},
        }
        if more.strip():
            operation["description"] = more.strip()
        if route.body is not None:
            operation["requestBody"] = self._body(route, route.body)
        return operation

    def _body(self, route: Route, body: type[msgspec.Struct] | Content) -> dict[str, Any]:
        if isinstance(body, Content):
            return {"required": True, "description": body.description, "content": self._described(body)}
        media: dict[str, Any] = {"schema": self._schemas.of(body)}
        if example := EXAMPLES.get(route.handler.__name__):
            media["example"] = example
        return {"required": not self._schemas.takes_nothing(body), "content": {JSON: media}}

    def _success(self, route: Route) -> dict[str, Any]:
        headers = OF_INFERENCE if route.permission is Permission.INFER else OF_EVERY_ANSWER
        if isinstance(route.answer, Content):
            content = self._described(route.answer)
            return {"description": route.answer.description, "headers": headers, "content": content}
        response: dict[str, Any] = {"description": "Success", "headers": headers}
        if route.answer is not None:
            response["content"] = {JSON: {"schema": self._answer(route, route.answer)}}
        for other in route.other_answers:
            response["content"] |= self._described(other)
        if route.event is not None:
            response["content"][EVENTS] = {"schema": self._events(route.event)}
        if links := links_of(route, self._routes, self._ids):
            response["links"] = links
        return response

    def _events(self, event: type[msgspec.Struct]) -> dict[str, Any]:
        told = "Each server-sent event, when the body says `stream`. Comments between them are to be skipped."
        data = {"type": "string", "contentMediaType": JSON, "contentSchema": self._schemas.of(event)}
        members = {"event": {"type": "string"}, "data": {"anyOf": [{"const": "[DONE]"}, data]}}
        return {"type": "object", "description": told, "properties": members, "required": ["data"]}

    def _answer(self, route: Route, answer: type[msgspec.Struct]) -> dict[str, Any]:
        schema = self._schemas.of(answer)
        if route.is_array:
            return {"type": "array", "items": schema}
        if route.plural is None:
            return schema
        members = {
            route.plural: {"type": "array", "items": schema},
            "nextPageToken": {"type": "string", "description": "Of the next page; empty on the last one."},
            "totalSize": {"type": "integer", "description": "How many there are on all pages."},
        }
        return {"type": "object", "properties": members, "required": list(members)}

    def _described(self, content: Content) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "string"} if content.is_text else {}
        if content.parts:
            schema = {"type": "object", "properties": dict.fromkeys(content.parts, _FILE), "required": [*content.parts]}
        if content.fields is not None:
            fields = msgspec.structs.fields(content.fields)
            own = self._schemas.properties(content.fields)
            schema["properties"] |= {
                field.encode_name: _FILE if field.type == bytes | None else own[field.encode_name] for field in fields
            }
            schema["required"] += [field.encode_name for field in fields if field.required]
        return {content.media_type: {"schema": schema}}
