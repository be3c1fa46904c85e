"""Files of the embedded engine that cannot be used: each is reported by name and reason, never by the driver's error."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from millrace.engines.sqlite import database as database_module
from millrace.engines.sqlite import filesystem
from millrace.engines.sqlite.database import APPLICATION_IDS, Database, reason_of
from millrace.engines.sqlite.filesystem import file_system_of
from millrace.engines.sqlite.queries import migrations
from millrace.engines.sqlite.store import SqliteStore
from millrace.errors import StoreUnavailable
from millrace.held import FIRST, LetterFilter
from millrace.ports import JournalEntry

NOBODY = 65534
Open = Callable[..., Database]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Open]:
    """Makes databases on files of the test's folder."""
    executor, made = ThreadPoolExecutor(1), list[Database]()

    def make(name: str = "orders.db", kind: str = "store") -> Database:
        made.append(Database(tmp_path / name, kind=kind, executor=executor))
        return made[-1]

    yield make
    executor.shutdown()
    for each in made:
        each.close()


async def refusal(database: Database) -> StoreUnavailable:
    """Why it does not open; the message names the file."""
    with pytest.raises(StoreUnavailable) as error:
        await database.open()
    assert str(database.path) in str(error.value)
    return error.value


async def made(database: Database) -> Path:
    """A sound file, closed again."""
    await database.open()
    database.close()
    return database.path


def change(path: Path, statement: str) -> None:
    """Do something to a file behind the engine's back."""
    connection = apsw.Connection(str(path))
    connection.execute(statement).fetchall()
    connection.close()


async def test_what_the_first_schema_held_is_kept(database: Open) -> None:
    """A dead letter of a store of the first schema is there after the migration, and its last failure was when it was held first."""
    file = database()
    connection = apsw.Connection(str(file.path))
    connection.execute(migrations("store")[0])
    connection.execute(f"pragma application_id={APPLICATION_IDS['store']}; pragma user_version=1")
    connection.execute("insert into held values ('p', 't', 0, 7, 'k', 'dead', x'76', 'r', 'd', 5, 0, 0, 123)")
    connection.close()
    store = SqliteStore("orders", file)
    await store.open()
    (row,) = await store.reader.letters.page(LetterFilter(), after=FIRST, limit=9)
    assert (row.place, row.attempts, row.last_at, row.fingerprint, row.history) == (("p", "t", 0, 7), 5, 123, "", "")
    assert all(well for what, well, _ in await store.check() if what == "schema")


async def test_newer_versions_are_not_touched(database: Open) -> None:
    """A file of a later release is refused with both versions."""
    path = await made(database())
    change(path, "pragma user_version=99")
    error = await refusal(database())
    assert error.reason == "newer_version"
    assert "99" in error.detail


async def test_other_files_are_not_touched(database: Open, tmp_path: Path) -> None:
    """A database of somebody else, and a log where a store should be, are refused."""
    change(tmp_path / "orders.db", "create table theirs (id)")
    assert (await refusal(database())).reason == "not_ours"
    await made(database("log.db", "log"))
    assert (await refusal(database("log.db", "store"))).reason == "not_ours"


@pytest.mark.parametrize("content", [b"this is no database, this is a text of some length" * 20, b"SQLite format 3\x00" + b"\xff" * 4096])
async def test_junk_is_corrupt(database: Open, tmp_path: Path, content: bytes) -> None:
    """A file that is no database is reported, and left as it is."""
    (tmp_path / "orders.db").write_bytes(content)
    assert (await refusal(database())).reason == "corrupt"
    assert (tmp_path / "orders.db").read_bytes() == content


async def test_damaged_pages_are_corrupt(database: Open) -> None:
    """A file whose pages were overwritten fails when they are read, with the file's name."""
    path = await made(database())
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    with pytest.raises(StoreUnavailable) as error:
        await _read(SqliteStore("orders", database()))
    assert error.value.reason == "corrupt"


async def _read(store: SqliteStore) -> None:
    await store.open()
    await store.reader.journal.tail(0, limit=1)


async def test_a_writer_that_does_not_end_is_waited_for_and_named(database: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that holds the write lock: `locked`, after the time that is allowed for it, and nothing is left open."""
    held, waiting = database(), database()
    await held.open()
    await waiting.open()
    await held.begin()
    monkeypatch.setattr(database_module, "LOCK_WAIT_S", 0.05)
    with pytest.raises(StoreUnavailable) as error:
        await waiting.begin()
    assert error.value.reason == "locked"
    held.rollback()
    await waiting.begin()
    waiting.rollback()


async def test_full_disks_undo_the_transaction(database: Open) -> None:
    """A disk that fills up fails the transaction that met it, whole, and the next one works when there is room."""
    found = database()
    store = SqliteStore("orders", found)
    await store.open()
    found.writer.execute("pragma max_page_count=60").fetchall()
    transaction = await store.begin()
    with pytest.raises(StoreUnavailable) as error:
        await transaction.journal.append([JournalEntry(1, "t", 0, "k", None, None, bytes(1 << 20))])
    assert error.value.reason == "full"
    await transaction.rollback()

    found.writer.execute("pragma max_page_count=1000000").fetchall()
    transaction = await store.begin()
    await transaction.journal.append([JournalEntry(1, "t", 0, "k", None, None, b"x")])
    await transaction.commit()
    assert await store.reader.journal.head() == 1


async def test_a_disk_that_is_full_at_the_first_start(database: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room for the schema: `full`, not the driver's error, and a later start finds nothing half made."""
    connect = Database._connect

    def narrow(self: Database) -> apsw.Connection:
        connection = connect(self)
        connection.execute("pragma max_page_count=3").fetchall()
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(Database, "_connect", narrow)
        assert (await refusal(database())).reason == "full"
    await made(database())


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user to meet a file that may not be written")
def test_read_only_files_are_named() -> None:
    """A file or folder that this user may not write is reported as that."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "orders.db").touch(mode=0o444)
        child = os.fork()
        if child == 0:
            os.setresuid(NOBODY, NOBODY, NOBODY)
            try:
                Database(folder / "orders.db", kind="store", executor=ThreadPoolExecutor(1))._check_place()
            except StoreUnavailable as error:
                os._exit(7 if error.reason == "read_only" else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/data /data nfs4 rw 0 0
/dev/vdb /data/local xfs rw 0 0
//nas/share /mnt/my\\040share cifs rw 0 0
garbage
"""


@pytest.mark.parametrize(
    "folder, expected",
    [("/data/shop", "nfs4"), ("/data/local/shop", "xfs"), ("/database", "ext4"), ("/mnt/my share/x", "cifs"), ("/", "ext4")],
)
def test_file_systems_are_told_by_the_longest_mount(folder: str, expected: str) -> None:
    """The mount that holds a folder is the one with the longest path above it."""
    assert file_system_of(Path(folder), mounts=MOUNTS) == expected


async def test_network_file_systems_are_refused(database: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where locks cannot be trusted nothing is opened, and the file system is named."""
    mounts = f"/dev/vda / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n"
    monkeypatch.setattr(filesystem, "file_system_of", lambda folder: file_system_of(folder, mounts=mounts))
    error = await refusal(database())
    assert error.reason == "network_file_system"
    assert "nfs4" in error.detail


@pytest.mark.parametrize(
    "kind, reason",
    [
        (apsw.BusyError, "locked"),
        (apsw.FullError, "full"),
        (apsw.ReadOnlyError, "read_only"),
        (apsw.CorruptError, "corrupt"),
        (apsw.NotADBError, "corrupt"),
        (apsw.CantOpenError, "unreachable"),
        (apsw.IOError, "unreachable"),
        (apsw.SQLError, "failed"),
    ],
)
def test_driver_errors_have_reasons(kind: type[apsw.Error], reason: str) -> None:
    """Each condition an operator can act on has a word; a mistake in SQL is `failed`."""
    assert reason_of(kind()) == reason
