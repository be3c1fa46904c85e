"""A SQLite file as it was at one moment, for looking at it beside whoever works with it.

Nothing is created, migrated or changed: the connection may not write, and one read transaction lasts from `open` to
`close`, so figures of several tables agree however busy the file is. It holds back the writers' checkpoints
meanwhile, so it is for commands that end, not for servers. The file is opened for writing all the same, because after
a crash the first reader recovers the write-ahead log.

Neighbours: stands in for `Database` where `engine` was asked for `reading`.
"""

from __future__ import annotations

import os

import apsw

from millrace.engines.sqlite.database import Database
from millrace.errors import StoreUnavailable

PATIENCE_MS = 2000


class Snapshot(Database):
    """A file of the embedded engine, for reading."""

    async def open(self) -> None:
        """Open the file as it is now.

        Raises:
            StoreUnavailable: `absent` for a file that is not there or empty, `older_version` for one that the
            application has not yet
                migrated, otherwise the reason why it cannot be read.
        """
        if not self.path.exists():
            raise StoreUnavailable(
                str(self.path),
                reason="absent",
                detail="there is no such file; the application makes it at its first start",
            )
        self._check_file_system()
        with self.translated():
            self.reader = self.writer = self._connect()

    def _connect(self) -> apsw.Connection:
        frames = self.path.with_name(f"{self.path.name}-wal")
        self._has_frames = frames.exists() and frames.stat().st_size > 0
        try:
            connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
            try:
                self._look(connection)
            except BaseException:
                connection.close()
                raise
        except apsw.CantOpenError as error:
            raise self._not_opened(error) from error
        return connection

    def _look(self, connection: apsw.Connection) -> None:
        connection.set_busy_timeout(PATIENCE_MS)
        if self._has_frames:
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # the last to close would write them into the file
        connection.execute("pragma query_only=1")
        connection.execute("pragma synchronous=full")
        connection.execute("begin")
        if not self._value(connection, "pragma schema_version"):
            raise StoreUnavailable(str(self.path), reason="absent", detail="the file is empty; the application fills it at its first start")
        self._check_contents(connection)
        version = self._value(connection, "pragma user_version")
        if version < self.newest:
            detail = f"schema {version}, this release writes {self.newest}; the application's next start migrates it"
            raise StoreUnavailable(str(self.path), reason="older_version", detail=detail)

    def _not_opened(self, error: apsw.Error) -> StoreUnavailable:
        if not os.access(self.path, os.R_OK):
            return StoreUnavailable(str(self.path), reason="unreachable", detail="this user may not read the file")
        if not os.access(self.path.parent, os.W_OK):
            return StoreUnavailable(
                str(self.path),
                reason="read_only",
                detail="this user may not write the folder, as SQLite needs even for reading",
            )
        return StoreUnavailable(str(self.path), reason="unreachable", detail=str(error))

    async def begin(self) -> None:
        """Refuse.

        Raises:
            StoreUnavailable: always.
        """
        raise StoreUnavailable(str(self.path), reason="read_only", detail="it was opened to be looked at")
