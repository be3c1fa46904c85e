"""Static files: style sheets, scripts, pictures. Read once, answered with an ETag, checked again by browsers each time."""

from __future__ import annotations

import hashlib
import mimetypes
from importlib.resources import files
from importlib.resources.abc import Traversable

from parcomolo.web.endpoint import Answer, Call, Endpoint
from parcomolo.web.problems import not_found

TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_FOLDERS = ("css", "js", "pictures")


class Assets:
    """Every static file of the package, in memory; only what is found here can be asked for."""

    def __init__(self) -> None:
        root = files("parcomolo.web") / "static"
        self._files = {name: _File(found) for name, found in _walk(root, "")}

    async def show(self, call: Call) -> Answer:
        """Answer with a file, or with 304 when the client has it."""
        folder, name = call.params.get("folder"), call.params.get("name", "favicon.svg")
        file = self._files.get(f"{folder}/{name}" if folder else name)
        if file is None:
            raise not_found("file", name)
        headers = [("ETag", file.etag), ("Cache-Control", "no-cache")]
        if file.etag in (call.header(b"if-none-match") or ""):
            return Answer(status=304, content_type=file.type, headers=headers)
        return Answer(body=file.body, content_type=file.type, headers=headers)


class _File:
    def __init__(self, found: Traversable) -> None:
        self.body = found.read_bytes()
        self.etag = f'"{hashlib.blake2b(self.body, digest_size=12).hexdigest()}"'
        suffix = "." + found.name.rpartition(".")[2]
        self.type = TYPES.get(suffix) or mimetypes.guess_type(found.name)[0] or "application/octet-stream"


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _walk(entry, f"{prefix}{entry.name}/")
        elif not entry.name.startswith("."):
            found.append((f"{prefix}{entry.name}", entry))
    return found


def endpoints() -> tuple[Endpoint, ...]:
    """Return the routes."""
    assets = Assets()

    def file(path: str, summary: str) -> Endpoint:
        answers = {200: "application/octet-stream", 304: None}
        return Endpoint(method="GET", path=path, handler=assets.show, summary=summary, answers=answers, problems=(404,), hidden=True)

    return (
        file("/favicon.ico", "The icon"),
        file("/static/{name}", "A static file"),
        file("/static/{folder}/{name}", "A static file"),
    )
