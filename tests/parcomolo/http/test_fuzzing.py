"""Every described route under generated requests: no 5xx but the declared 503, and no answer that is not declared.

The stream `/events` is left out: its answer never ends (`test_events` has it).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.parcomolo.http.server import environment, serving

# Not among them: rejection of every value outside the schema. A text without a value (`?status=`) means no such filter here.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)
EXAMPLES = 40


@pytest.mark.slow
def test_generated_requests_find_no_undeclared_answer(tmp_path):
    """Examples, boundary values and random data, valid and invalid, from the description that the server gives."""
    fuzzer = Path(sys.executable).with_name("st")
    if not fuzzer.exists():
        pytest.skip("schemathesis is not installed")
    with serving(tmp_path / "data") as server:
        command = [fuzzer, "run", f"{server.url}/openapi.json", "--exclude-path", "/events", "--no-color"]
        command += ["--checks", ",".join(CHECKS), "--max-examples", str(EXAMPLES), "--phases", "examples,coverage,fuzzing"]
        command += ["--suppress-health-check", "all", "--request-timeout", "20"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path, env=environment(), check=False)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        status, printed = server.stop()
        assert status == 0
        assert "Traceback" not in printed
