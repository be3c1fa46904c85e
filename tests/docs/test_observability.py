"""The page on seeing what happens is run, on files, with a collector that keeps what it is sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.docs.walk import walk_on_files

PAGE = Path(__file__).resolve().parents[2] / "docs" / "observability.md"
WALK_S = 100


@pytest.fixture
def collector() -> Iterator[tuple[int, list[tuple[str, bytes]]]]:
    """The port of an HTTP server, and what was posted to it."""
    posted: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], posted
        server.shutdown()


@pytest.mark.timeout(WALK_S * 2)
def test_the_page_does_what_it_says(tmp_path: Path, collector) -> None:
    """Its commands succeed; the conversation is a tree; spans of every service reach the collector before the process ends."""
    port, posted = collector
    walked = walk_on_files(PAGE, tmp_path, port="8112", seconds=WALK_S, also={"4318": str(port)})

    assert walked.status == 0, walked.said
    assert "orders.order-status@1: handled" in walked.said
    assert {path for path, _ in posted} == {"/v1/traces"}
    sent = b"".join(body for _, body in posted)
    for name in (b"POST /api/orders", b"execute place-order", b"inventory.handlers", b"payments.handlers", b"shipping.handlers"):
        assert name in sent
    assert b"tok_ok" not in sent
    assert not (tmp_path / "data").exists()
