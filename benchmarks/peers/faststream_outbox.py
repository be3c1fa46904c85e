"""W1 as a good team writes it today on Kafka and PostgreSQL: FastStream, SQLAlchemy 2 async, asyncpg, inbox and outbox.

One handler call per message; inbox row, state upsert and outbox row in one transaction; a relay task publishes waiting
rows (500 at a time, ``for update skip locked``) and marks them. State exactly once by the inbox; the topic at least
once. Its best case: no logger, uvloop, three
statements a transaction.

    BENCH_KAFKA=... BENCH_POSTGRES=... BENCH_NAMESPACE=... python -m benchmarks.peers.faststream_outbox
"""

import asyncio
import os
from datetime import datetime

import uvloop
from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker
from pydantic import BaseModel
from sqlalchemy import BigInteger, DateTime, Identity, Index, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMESPACE = os.environ["BENCH_NAMESPACE"]
SCHEMA = NAMESPACE.replace("-", "_")
OUT = f"{NAMESPACE}.totals"


class Order(BaseModel):
    """The data of an input."""

    order_id: str
    customer_id: str
    sku: str
    quantity: int
    unit_price: int


class Placed(BaseModel):
    """An input as it is on the topic."""

    id: str
    source: str
    correlationid: str
    data: Order


class Total(BaseModel):
    """The data of an output."""

    customer_id: str
    order_id: str
    count: int
    total: int


class Changed(BaseModel):
    """An output as it is on the topic."""

    id: str
    source: str = "/twin/totals"
    type: str = "twin.totals.total-changed.v1"
    subject: str
    partitionkey: str
    correlationid: str
    causationid: str
    data: Total
    specversion: str = "1.0"
    datacontenttype: str = "application/json"


class Base(DeclarativeBase):
    """The tables' registry."""


class StateRow(Base):
    """What is kept per customer."""

    __tablename__ = "state"
    customer_id: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)
    total: Mapped[int] = mapped_column(BigInteger)


class InboxRow(Base):
    """A message that was handled."""

    __tablename__ = "inbox"
    message_id: Mapped[str] = mapped_column(primary_key=True)
    received_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class OutboxRow(Base):
    """A message that is to be published, or was."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    key: Mapped[str]
    payload: Mapped[str]
    published_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    __table_args__ = (Index("waiting", "id", postgresql_where=text("published_at is null")),)


engine = create_async_engine(
    os.environ["BENCH_POSTGRES"].replace("postgresql://", "postgresql+asyncpg://", 1),
    connect_args={"server_settings": {"search_path": SCHEMA}},
    pool_size=5,
)
Session = async_sessionmaker(engine, expire_on_commit=False)
broker = KafkaBroker(os.environ["BENCH_KAFKA"], acks="all", enable_idempotence=True, logger=None)


@broker.subscriber(
    f"{NAMESPACE}.orders.in", group_id=f"{NAMESPACE}-peer", auto_offset_reset="earliest", ack_policy=AckPolicy.NACK_ON_ERROR
)
async def on_order(event: Placed) -> None:
    """Handle one order."""
    order = event.data
    async with Session.begin() as session:
        seen = upsert(InboxRow).values(message_id=event.id).on_conflict_do_nothing()
        if not (await session.execute(seen)).rowcount:
            return
        state = upsert(StateRow).values(customer_id=order.customer_id, count=1, total=order.quantity * order.unit_price)
        state = state.on_conflict_do_update(
            index_elements=["customer_id"],
            set_={"count": StateRow.count + 1, "total": StateRow.total + state.excluded.total},
        ).returning(StateRow.count, StateRow.total)
        count, total = (await session.execute(state)).one()
        out = Changed(
            id=f"out-{event.id}",
            subject=order.customer_id,
            partitionkey=order.customer_id,
            correlationid=event.correlationid,
            causationid=event.id,
            data=Total(customer_id=order.customer_id, order_id=order.order_id, count=count, total=total),
        )
        await session.execute(insert(OutboxRow).values(key=order.customer_id, payload=out.model_dump_json()))


async def relay() -> None:
    """Publish what waits."""
    waiting = select(OutboxRow).where(OutboxRow.published_at.is_(None)).order_by(OutboxRow.id).limit(500)
    while True:
        async with Session.begin() as session:
            rows = (await session.scalars(waiting.with_for_update(skip_locked=True))).all()
            if rows:
                sent = [await broker.publish(row.payload.encode(), OUT, key=row.key.encode(), no_confirm=True) for row in rows]
                await asyncio.gather(*sent)
                done = update(OutboxRow).where(OutboxRow.id.in_([row.id for row in rows]))
                await session.execute(done.values(published_at=func.now()))
        if len(rows) < 500:
            await asyncio.sleep(0.02)


async def main() -> None:
    """Make the tables and run."""
    app = FastStream(broker, logger=None)
    async with engine.begin() as connection:
        await connection.execute(text(f"create schema if not exists {SCHEMA}"))
        await connection.run_sync(Base.metadata.create_all)
    tasks: list[asyncio.Task[None]] = []

    @app.after_startup
    async def start() -> None:
        tasks.append(asyncio.create_task(relay()))

    await app.run()


if __name__ == "__main__":
    uvloop.run(main())
