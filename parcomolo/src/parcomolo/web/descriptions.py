"""The descriptions of the interfaces: OpenAPI and AsyncAPI for machines, a page for people that needs nothing else.

Neighbours: `openapi` and `asyncapi` make the documents; they are made once, when they are first asked for.
"""

from __future__ import annotations

from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from millrace import Application
from parcomolo.web import asyncapi, openapi
from parcomolo.web.endpoint import Answer, Call, Endpoint, encode
from parcomolo.web.html import CONTENT_TYPE, page


class Descriptions:
    """The handlers.

    Args:
        app: whose messages are described.
        described: the endpoints of this process.
    """

    def __init__(self, app: Application, described: tuple[Endpoint, ...]) -> None:
        self._app = app
        self._described = described

    @cached_property
    def document(self) -> dict[str, Any]:
        """The OpenAPI document."""
        return openapi.document(self._described, version=_version())

    @cached_property
    def _asyncapi(self) -> bytes:
        return encode(asyncapi.document(self._app, version=_version()))

    async def openapi(self, call: Call) -> Answer:
        """Answer with the OpenAPI document."""
        return Answer(body=encode(self.document))

    async def asyncapi(self, call: Call) -> Answer:
        """Answer with the AsyncAPI document."""
        return Answer(body=self._asyncapi)

    async def docs(self, call: Call) -> Answer:
        """Show the OpenAPI document to people."""
        operations = [
            {"path": path, "method": method.upper(), **operation}
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
        ]
        return page("docs.html", document=self.document, operations=operations, pretty=_pretty)


def _pretty(value: object) -> str:
    return msgspec.json.format(encode(value), indent=2).decode()


def _version() -> str:
    try:
        return version("parcomolo")
    except PackageNotFoundError:
        return "0"


def endpoints(app: Application, described: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """Return the routes."""
    documents = Descriptions(app, described)
    return (
        Endpoint(
            method="GET",
            path="/openapi.json",
            handler=documents.openapi,
            summary="This interface, for machines",
            answers={200: dict[str, Any]},
            hidden=True,
        ),
        Endpoint(
            method="GET",
            path="/asyncapi.json",
            handler=documents.asyncapi,
            summary="The topics, for machines",
            answers={200: dict[str, Any]},
            hidden=True,
        ),
        Endpoint(
            method="GET",
            path="/docs",
            handler=documents.docs,
            summary="This interface, for people",
            answers={200: CONTENT_TYPE},
            hidden=True,
        ),
    )
