"""`parcomolo migrate` where it cannot do what it is asked for: it says why in one line, and changes nothing."""

from __future__ import annotations

import pytest

from tests.parcomolo.http.server import parcomolo, serving

NOWHERE = ("--to-log", "kafka://127.0.0.1:1", "--to-store", "postgresql://shop:secret@127.0.0.1:1/shop")


pytestmark = pytest.mark.usefixtures("in_files")
"""What is moved lies in files, wherever the shops of this run are."""


def test_a_target_has_to_be_named(tmp_path):
    """Without servers, or with one of them, there is nothing to move to."""
    for missing, places in (("--to-log", ()), ("--to-store", NOWHERE[:2])):
        done = parcomolo("migrate", "--data", str(tmp_path), *places)
        assert done.returncode == 2
        [line] = done.stderr.splitlines()
        assert f"{missing} (PARCOMOLO_{missing[5:].upper()}) is not set" in line


def test_a_folder_without_a_shop_is_refused(tmp_path):
    """A wrong folder is named, and nothing is made in it."""
    done = parcomolo("migrate", "--data", str(tmp_path / "wrong"), *NOWHERE)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "--data (PARCOMOLO_DATA)" in line
    assert not (tmp_path / "wrong").exists()


def test_a_running_shop_is_left_alone_and_so_is_one_whose_target_is_away(tmp_path):
    """While the shop runs it is not moved; when it has stopped, a server that does not answer is named without its password."""
    data = tmp_path / "data"
    with serving(data):
        done = parcomolo("migrate", "--data", str(data), *NOWHERE)
        assert done.returncode == 1
        assert done.stderr == f"parcomolo: a process runs on {data}; stop it first\n"
    before = {path.name: path.read_bytes() for path in data.glob("*.db")}
    done = parcomolo("migrate", "--data", str(data), *NOWHERE)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "unreachable" in line
    assert "secret" not in line
    assert {path.name: path.read_bytes() for path in data.glob("*.db")} == before
