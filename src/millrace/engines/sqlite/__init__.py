"""The embedded engine: log and stores are SQLite files in one folder; see `engine`."""

from millrace.engines.sqlite.engine import SqliteEngine

__all__ = ["SqliteEngine"]
