"""``/asyncapi.json``: the conversations of the route table's rows as AsyncAPI 3.0.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dispatcher.http.caller import ApiRoute
from dispatcher.http.openapi import TITLE, roles_of
from dispatcher.http.operation import Conversation, SocketMessage
from dispatcher.http.schemas import Schemas
from dispatcher.model import Role

_INTRODUCTION = (
    "The WebSockets of the dispatcher. A key travels in the handshake as `Authorization: Bearer`, or as the "
    "subprotocol `pelion_<key>` where a client cannot set headers."
)


def describe_sockets(routes: Sequence[ApiRoute], version: str) -> dict[str, Any]:
    """The document."""
    talks = [(route, talk) for route in routes if (talk := route.operation.conversation) is not None]
    schemas = Schemas(_models(talk for _, talk in talks))
    return {
        "asyncapi": "3.0.0",
        "info": {"title": TITLE, "version": version, "description": _INTRODUCTION},
        "defaultContentType": "application/json",
        "channels": {talk.name: _channel(route, talk) for route, talk in talks},
        "operations": {
            name: operation for route, talk in talks for name, operation in _operations(route, talk)
        },
        "components": {
            "schemas": schemas.components,
            "messages": {
                _key(talk, message): _message(message, schemas)
                for _, talk in talks
                for message in talk.messages
            },
            "securitySchemes": {role.value: {"type": "http", "scheme": "bearer"} for role in Role},
        },
    }


def _models(talks: Iterator[Conversation]) -> Iterator[Any]:
    return (message.model for talk in talks for message in talk.messages)


def _channel(route: ApiRoute, talk: Conversation) -> dict[str, Any]:
    return {
        "address": route.pattern,
        "title": talk.summary,
        "description": route.operation.summary,
        "messages": {
            message.name: {"$ref": f"#/components/messages/{_key(talk, message)}"}
            for message in talk.messages
        },
        "bindings": {"ws": {"method": route.method, "bindingVersion": "0.1.0"}},
        "x-close-codes": {str(code.value): meaning for code, meaning in talk.closes},
    }


def _operations(route: ApiRoute, talk: Conversation) -> Iterator[tuple[str, dict[str, Any]]]:
    """One for each direction; by AsyncAPI's reading the application of the document is the dispatcher."""
    for action, is_ours in (("send", True), ("receive", False)):
        messages = [message for message in talk.messages if message.is_ours is is_ours]
        yield (
            f"{action}_{talk.name}",
            {
                "action": action,
                "channel": {"$ref": f"#/channels/{talk.name}"},
                "summary": "; ".join(message.summary for message in messages),
                "security": [
                    {"$ref": f"#/components/securitySchemes/{role.value}"} for role in roles_of(route)
                ],
                "messages": [
                    {"$ref": f"#/channels/{talk.name}/messages/{message.name}"} for message in messages
                ],
            },
        )


def _message(message: SocketMessage, schemas: Schemas) -> dict[str, Any]:
    return {
        "name": message.name,
        "summary": message.summary,
        "contentType": "application/json" if message.opcode == 1 else "application/octet-stream",
        "payload": schemas.of(message.model),
        "examples": [{"payload": example} for example in message.examples],
        "x-opcode": message.opcode,
    }


def _key(talk: Conversation, message: SocketMessage) -> str:
    return f"{talk.name}_{message.name}"
