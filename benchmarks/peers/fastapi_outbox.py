"""``POST /api/orders`` as a good team writes it today: FastAPI, SQLAlchemy 2 async, a transactional outbox.

With ``BENCH_POSTGRES`` and ``BENCH_SCHEMA`` on PostgreSQL by asyncpg, with 16 pooled connections; else on aiosqlite:

SQLite in WAL mode with synchronous=FULL. Each request looks its prices up, then writes the order and its outbox row
in one transaction; the answer leaves after the commit. Tuned by trying: two pooled connections (one reads while the
other commits; more only meet in SQLite's busy handler and raise p99), transactions that begin ``immediate`` with the
first insert, ``expire_on_commit=False``, pydantic's JSON for JSON columns, no access log. One worker, as Millrace's
side has one process:

    BENCH_DATA=DIR uvicorn --loop uvloop --http httptools --workers 1 --no-access-log benchmarks.peers.fastapi_outbox:app
"""

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Response
from pydantic import BaseModel, Field
from pydantic_core import from_json, to_json
from sqlalchemy import JSON, DateTime, String, event, func, insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

POOL = int(os.environ.get("BENCH_POOL", "2"))
SEED = {
    "bland": ("Bland burger", 799),
    "cheese": ("Cheese burger", 999),
    "a-lot-of-cheese": ("Burger with a lot of cheese", 1299),
    **{f"product-{i:02d}": (f"Product {i}", 499 + 100 * i) for i in range(4, 16)},
}

POSTGRES = os.environ.get("BENCH_POSTGRES", "")
SCHEMA = os.environ.get("BENCH_SCHEMA", "public")


def on_postgres() -> AsyncEngine:
    """Sixteen connections: more or fewer made no difference, the worker's CPU is full."""
    url = POSTGRES.replace("postgresql://", "postgresql+asyncpg://", 1)
    return create_async_engine(
        url, pool_size=16, max_overflow=0, pool_timeout=60, connect_args={"server_settings": {"search_path": SCHEMA}}
    )


engine = on_postgres() if POSTGRES else create_async_engine(
    f"sqlite+aiosqlite:///{os.path.join(os.environ.get('BENCH_DATA', '.'), 'fastapi.db')}",
    pool_size=POOL,
    max_overflow=0,
    pool_timeout=60,
    connect_args={"isolation_level": "IMMEDIATE", "timeout": 60},
    json_serializer=lambda value: to_json(value).decode(),
    json_deserializer=from_json,
)
Session = async_sessionmaker(engine, expire_on_commit=False)


@event.listens_for(engine.sync_engine, "connect")
def _durable(connection: Any, _record: Any) -> None:
    if POSTGRES:
        return
    cursor = connection.cursor()
    for pragma in ("journal_mode=wal", "synchronous=full"):
        cursor.execute(f"pragma {pragma}")
    cursor.close()


class Base(DeclarativeBase):
    """The tables' registry."""


class ProductRow(Base):
    """A product and its price now."""

    __tablename__ = "products"
    sku: Mapped[str] = mapped_column(String, primary_key=True)
    name: Mapped[str]
    unit_price: Mapped[int]


class OrderRow(Base):
    """An order as it is answered."""

    __tablename__ = "orders"
    order_id: Mapped[str] = mapped_column(String, primary_key=True)
    customer_id: Mapped[str] = mapped_column(String, index=True)
    lines: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    total: Mapped[int]
    status: Mapped[str]
    payment_token: Mapped[str]
    placed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class OutboxRow(Base):
    """A message that a relay would publish."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    topic: Mapped[str]
    key: Mapped[str]
    type: Mapped[str]
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)


class Money(BaseModel):
    """Minor units and their currency."""

    amount: int
    currency: str = "EUR"


class LineWanted(BaseModel):
    """A product and how many of it."""

    sku: str
    quantity: int = Field(ge=1)


class Payment(BaseModel):
    """How the customer pays."""

    token: str


class PlaceOrder(BaseModel):
    """The request's body, as Parcomolo takes it."""

    customer_id: str = Field(min_length=1)
    lines: list[LineWanted] = Field(min_length=1)
    payment: Payment


class Line(BaseModel):
    """A line of the order with the price of the moment."""

    sku: str
    name: str
    quantity: int
    unit_price: Money


class Order(BaseModel):
    """The answer, as Parcomolo gives it."""

    order_id: str
    customer_id: str
    lines: list[Line]
    total: Money
    status: str = "pending"
    payment_status: str = "unpaid"
    fulfilment_status: str = "unfulfilled"
    reason: str | None = None
    placed_at: datetime
    version: int = 1


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Make the tables and the catalogue."""
    async with engine.begin() as connection:
        if POSTGRES:
            await connection.execute(text(f"create schema if not exists {SCHEMA}"))
        await connection.run_sync(Base.metadata.create_all)
        rows = [{"sku": sku, "name": name, "unit_price": price} for sku, (name, price) in SEED.items()]
        seed = upsert(ProductRow).on_conflict_do_nothing() if POSTGRES else insert(ProductRow).prefix_with("or ignore")
        await connection.execute(seed, rows)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


async def transaction() -> AsyncIterator[AsyncSession]:
    """One session and transaction per request, committed before the answer is sent."""
    async with Session() as session, session.begin():
        yield session


Transaction = Annotated[AsyncSession, Depends(transaction, scope="function")]


@app.post("/api/orders", status_code=201)
async def place_order(command: PlaceOrder, session: Transaction, response: Response) -> Order:
    """Place an order; 201 says that order and outbox row are on disk."""
    order = await priced(command, session)
    lines = [{"sku": x.sku, "name": x.name, "quantity": x.quantity, "unit_price": x.unit_price.amount} for x in order.lines]
    session.add(
        OrderRow(
            order_id=order.order_id,
            customer_id=order.customer_id,
            lines=lines,
            total=order.total.amount,
            status=order.status,
            payment_token=command.payment.token,
            placed_at=order.placed_at,
        )
    )
    payload = order.model_dump(mode="json") | {"payment_token": command.payment.token}
    session.add(OutboxRow(topic="orders", key=order.order_id, type="parcomolo.orders.order-placed.v1", payload=payload))
    response.headers["Location"] = f"/api/orders/{order.order_id}"
    return order


async def priced(command: PlaceOrder, session: AsyncSession) -> Order:
    """The order with the catalogue's prices of this moment; 422 for an unknown product."""
    wanted = {line.sku for line in command.lines}
    query = select(ProductRow.sku, ProductRow.name, ProductRow.unit_price).where(ProductRow.sku.in_(wanted))
    products = {sku: (name, price) for sku, name, price in await session.execute(query)}
    unknown = wanted - products.keys()
    if unknown:
        raise HTTPException(422, f"unknown product {sorted(unknown)[0]}")
    lines: list[Line] = []
    for line in command.lines:
        name, price = products[line.sku]
        lines.append(Line(sku=line.sku, name=name, quantity=line.quantity, unit_price=Money(amount=price)))
    return Order(
        order_id=str(uuid.uuid4()),
        customer_id=command.customer_id,
        lines=lines,
        total=Money(amount=sum(line.quantity * line.unit_price.amount for line in lines)),
        placed_at=datetime.now(timezone.utc),
    )


@app.get("/ready")
async def ready() -> dict[str, str]:
    """Answer when requests can be taken."""
    return {"status": "ready"}


@app.get("/counts")
async def counts(session: Transaction) -> dict[str, int]:
    """How many orders and outbox rows there are, and the sum of all totals, for the benchmark's own check."""
    orders, total = (await session.execute(select(func.count(), func.coalesce(func.sum(OrderRow.total), 0)))).one()
    outbox = await session.scalar(select(func.count()).select_from(OutboxRow))
    return {"orders": orders, "outbox": outbox or 0, "total": total}
