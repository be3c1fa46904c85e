"""The OpenAPI 3.1 document, made from the endpoints: every answer that can occur is in it, with its headers.

Neighbours: `descriptions` serves it; bodies and queries are described by the structs that check them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, get_type_hints

import msgspec

from parcomolo.web.endpoint import JSON, Endpoint, reason_phrase
from parcomolo.web.problems import ProblemDetails

PROBLEM = "application/problem+json"
_REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"\{(\w+)\}")
_TOKEN = {
    "type": "string",
    "maxLength": 4000,
    "pattern": r"^/[A-Za-z0-9._~/-]+@[0-9]{1,9};([A-Za-z0-9._-]+/[0-9]{1,6}=[0-9]{1,19},?)*$",
}
POSITION_IN = {
    "name": "Millrace-Position",
    "in": "header",
    "required": False,
    "schema": _TOKEN,
    "description": "as a command answered it: the answer waits until it has seen that, for 5 s at most, then 503",
}
POSITION_OUT = {"description": "where the facts of this command are; send it with a GET to read them", "schema": _TOKEN}
KEY_IN = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    "description": "a repeat with the same key and body gets the first answer again; another body is 422",
}
RETRY_AFTER = {"description": "seconds", "schema": {"type": "integer"}}
WHY = {
    400: "The body, header or cursor cannot be read",
    401: "The admin token is missing or wrong",
    403: "A page of another site sent this, or there is no admin token to compare with",
    404: "There is no such thing",
    409: "The state does not allow it; `reason` says why",
    413: "The body is larger than 1 MiB",
    422: "A field is wrong, or a key was used with another body",
    429: "The queues are full",
    503: "Not possible at the moment",
}


def document(endpoints: Iterable[Endpoint], *, version: str) -> dict[str, Any]:
    """Return the document."""
    shown = [endpoint for endpoint in endpoints if not endpoint.hidden]
    schemas, components = _schemas(shown)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in shown:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Parcomolo",
            "version": version,
            "description": "A shop in which an order flows through inventory, payment and shipping by events.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(endpoint.tag for endpoint in shown)],
        "paths": paths,
        "components": {"schemas": components},
    }


def _schemas(endpoints: list[Endpoint]) -> tuple[dict[Any, Any], dict[str, Any]]:
    types: dict[Any, None] = {ProblemDetails: None}
    for endpoint in endpoints:
        types.update(dict.fromkeys(each for each in endpoint.answers.values() if _is_type(each)))
        if endpoint.body is not None:
            types[endpoint.body] = None
    found, components = msgspec.json.schema_components(types, ref_template=_REF)
    return dict(zip(types, found, strict=True)), components


def _is_type(answer: Any) -> bool:
    return answer is not None and not isinstance(answer, str)


def _operation(endpoint: Endpoint, schemas: dict[Any, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": _operation_id(endpoint),
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "responses": _responses(endpoint, schemas),
    }
    if endpoint.description:
        told["description"] = endpoint.description
    if parameters := _parameters(endpoint):
        told["parameters"] = parameters
    if endpoint.body is not None:
        content: dict[str, Any] = {"schema": schemas[endpoint.body]}
        if endpoint.example is not None:
            content["example"] = endpoint.example
        told["requestBody"] = {"required": not endpoint.body_optional, "content": {JSON: content}}
    return told


def _operation_id(endpoint: Endpoint) -> str:
    words = re.findall(r"[A-Za-z]+", endpoint.path.removeprefix("/api"))
    return "_".join([endpoint.method.lower(), *words])


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    found = [_path_parameter(name, endpoint) for name in _PARAMETER.findall(endpoint.path)]
    if endpoint.query is not None:
        found += _query_parameters(endpoint.query)
    if endpoint.keyed:
        found.append(KEY_IN)
    if endpoint.positioned:
        found.append(POSITION_IN)
    return found


def _path_parameter(name: str, endpoint: Endpoint) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "minLength": 1}
    if name == "order_id":
        schema["format"] = "uuid"
    description = endpoint.params.get(name, "")
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": description}


def _query_parameters(query: type[msgspec.Struct]) -> list[dict[str, Any]]:
    hints = get_type_hints(query, include_extras=True)
    fields = {field.encode_name: field for field in msgspec.structs.fields(query)}
    parameters: list[dict[str, Any]] = []
    for name, field in fields.items():
        schema = _without_null(msgspec.json.schema(hints[field.name]))
        description = schema.pop("description", "")
        if field.default not in (None, msgspec.NODEFAULT):
            schema["default"] = field.default
        parameters.append({"name": name, "in": "query", "schema": schema, "description": description})
    return parameters


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema without the null that stands for absence: a query has none."""
    kept = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(kept) == 1:
        return dict(kept[0])
    if None in schema.get("enum", ()):
        return {**schema, "enum": [value for value in schema["enum"] if value is not None]}
    return schema


def _responses(endpoint: Endpoint, schemas: dict[Any, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, answer in endpoint.answers.items():
        told: dict[str, Any] = {"description": reason_phrase(status)}
        if isinstance(answer, str):
            told["content"] = {answer.split(";")[0]: {"schema": {"type": "string"}}}
        elif answer is not None:
            told["content"] = {JSON: {"schema": schemas[answer]}}
        if endpoint.command:
            told["headers"] = dict[str, Any]({"Millrace-Position": POSITION_OUT})
        if status == 201:
            told["headers"]["Location"] = {"description": "the order", "schema": {"type": "string"}}
        responses[str(status)] = told
    for status in sorted(endpoint.problems):
        responses.setdefault(str(status), _problem(status, schemas))
    return responses


def _problem(status: int, schemas: dict[Any, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"description": WHY[status], "content": {PROBLEM: {"schema": schemas[ProblemDetails]}}}
    if status in (429, 503):
        told["headers"] = {"Retry-After": RETRY_AFTER}
    return told
