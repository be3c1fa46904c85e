"""The AsyncAPI 3.0 document: the public topics and every message on them, as the classes of the contracts declare.

Neighbours: `descriptions` serves it; topics named `internal.` are no part of it.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from typing import Any

import msgspec

from millrace import Application, Command, Message

_REF = "#/components/schemas/{name}"
ENVELOPE = {
    "type": "object",
    "description": "CloudEvents 1.0, structured mode",
    "required": ["id", "source", "type", "specversion", "subject", "partitionkey", "time", "data"],
    "properties": {
        **{
            name: {"type": "string"}
            for name in (
                "id",
                "source",
                "type",
                "subject",
                "partitionkey",
                "correlationid",
                "causationid",
                "sequence",
                "epoch",
                "traceparent",
            )
        },
        "specversion": {"const": "1.0"},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"const": "application/json"},
    },
}


def document(app: Application, *, version: str) -> dict[str, Any]:
    """Return the document."""
    topics: dict[str, list[tuple[str, type[Message]]]] = defaultdict(list)
    for cls in app.catalogue.classes():
        topic = cls.__declaration__.topic
        if topic and not topic.startswith("internal."):
            topics[topic].append((app.catalogue.type_of(cls), cls))
    classes = [cls for found in topics.values() for _, cls in found]
    schemas, components = msgspec.json.schema_components(classes, ref_template=_REF)
    data = dict(zip(classes, schemas, strict=True))
    messages = {wire: _message(wire, cls, data[cls]) for found in topics.values() for wire, cls in sorted(found, key=_wire)}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Parcomolo", "version": version, "description": "The public topics. Key: the `partitionkey`."},
        "defaultContentType": "application/cloudevents+json",
        "channels": {topic: _channel(topic, [wire for wire, _ in found]) for topic, found in sorted(topics.items())},
        "operations": {topic: _operation(topic) for topic in sorted(topics)},
        "components": {"messages": messages, "schemas": {"CloudEvent": ENVELOPE, **components}},
    }


def _wire(found: tuple[str, type[Message]]) -> str:
    return found[0]


def _channel(topic: str, wires: list[str]) -> dict[str, Any]:
    refs = {wire: {"$ref": f"#/components/messages/{wire}"} for wire in sorted(wires)}
    return {"address": topic, "messages": refs}


def _operation(topic: str) -> dict[str, Any]:
    return {"action": "receive" if topic.endswith(".commands") else "send", "channel": {"$ref": f"#/channels/{topic}"}}


def _message(wire: str, cls: type[Message], schema: dict[str, Any]) -> dict[str, Any]:
    payload = {
        "allOf": [
            {"$ref": _REF.format(name="CloudEvent")},
            {"type": "object", "properties": {"type": {"const": wire}, "data": schema}},
        ]
    }
    kind = "command" if issubclass(cls, Command) else "event"
    return {"name": wire, "summary": inspect.getdoc(cls) or "", "tags": [{"name": kind}], "payload": payload}
