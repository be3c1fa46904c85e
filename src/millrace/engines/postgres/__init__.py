"""The PostgreSQL engine: stores for services that outgrow one machine; see `engine`."""

from millrace.engines.postgres.engine import PostgresEngine
from millrace.engines.postgres.session import Timeouts

__all__ = ["PostgresEngine", "Timeouts"]
