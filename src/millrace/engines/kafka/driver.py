"""What this engine uses of confluent-kafka, with types.

The library's own annotations are partial, so strict checking would end at every call; here its names get the types that the engine relies
on, once. Neighbours: the only module that imports the library.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol

_client: Any = importlib.import_module("confluent_kafka")
_admin: Any = importlib.import_module("confluent_kafka.admin")
_error: Any = _client.KafkaError


class Failure(Protocol):
    """An error as the library reports it."""

    def code(self) -> int:
        """Return the broker's code, or one below 0 of the library's own."""
        ...

    def str(self) -> str:
        """Return it in words."""
        ...


class Event(Protocol):
    """What happened at a place: a record was read, or something else."""

    def topic(self) -> str:
        """Return the topic."""
        ...

    def partition(self) -> int:
        """Return the partition."""
        ...

    def offset(self) -> int:
        """Return the offset."""
        ...

    def error(self) -> Failure | None:
        """Return what happened instead, None for a record."""
        ...


class Message(Event, Protocol):
    """A record that was read, or an event in its place."""

    def key(self) -> bytes | None:
        """Return the key."""
        ...

    def value(self) -> bytes | None:
        """Return the value."""
        ...

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        """Return the headers."""
        ...

    def timestamp(self) -> tuple[int, int]:
        """Return (kind, milliseconds)."""
        ...


class Place(Protocol):
    """`TopicPartition` of the library."""

    topic: str
    partition: int
    offset: int


KafkaException: type[Exception] = _client.KafkaException
Consumer: Any = _client.Consumer
Producer: Any = _client.Producer
AdminClient: Any = _admin.AdminClient
TopicPartition: Any = _client.TopicPartition
TopicCollection: Any = _client.TopicCollection
GroupOffsets: Any = _client.ConsumerGroupTopicPartitions
READ_COMMITTED: Any = _client.IsolationLevel.READ_COMMITTED
NewTopic: Any = _admin.NewTopic
OffsetSpec: Any = _admin.OffsetSpec


def failure_of(error: BaseException | None) -> Failure | None:
    """Return what an exception of the library carries."""
    return error.args[0] if isinstance(error, KafkaException) else None


def topic_resource(name: str) -> Any:
    """Return what names a topic when its settings are asked for."""
    return _admin.ConfigResource(_admin.ResourceType.TOPIC, name)


def topic_setting(name: str, setting: str, value: str) -> Any:
    """Return a topic with one setting that is to be changed."""
    entry = _admin.ConfigEntry(setting, value, incremental_operation=_admin.AlterConfigOpType.SET)
    return _admin.ConfigResource(_admin.ResourceType.TOPIC, name, incremental_configs=[entry])


def broker_resource(node: str) -> Any:
    """Return what names a broker when its settings are asked for."""
    return _admin.ConfigResource(_admin.ResourceType.BROKER, node)


class Codes:
    """The codes that this engine tells apart."""

    AUTHENTICATION: int = _error._AUTHENTICATION  # noqa: SLF001  # the library names its own codes with an underscore
    SSL: int = _error._SSL  # noqa: SLF001
    ALL_BROKERS_DOWN: int = _error._ALL_BROKERS_DOWN  # noqa: SLF001
    TIMED_OUT: int = _error._TIMED_OUT  # noqa: SLF001
    TRANSPORT: int = _error._TRANSPORT  # noqa: SLF001
    END: int = _error._PARTITION_EOF  # noqa: SLF001
    NO_OFFSET: int = _error._AUTO_OFFSET_RESET  # noqa: SLF001
    NO_ENTRY: int = _error._NOENT  # noqa: SLF001
    UNKNOWN_TOPIC_HERE: int = _error._UNKNOWN_TOPIC  # noqa: SLF001
    UNKNOWN_PARTITION: int = _error._UNKNOWN_PARTITION  # noqa: SLF001
    UNKNOWN_TOPIC: int = _error.UNKNOWN_TOPIC_OR_PART
    TOPIC_EXISTS: int = _error.TOPIC_ALREADY_EXISTS
    TOPIC_REFUSED: int = _error.TOPIC_AUTHORIZATION_FAILED
    GROUP_REFUSED: int = _error.GROUP_AUTHORIZATION_FAILED
    CLUSTER_REFUSED: int = _error.CLUSTER_AUTHORIZATION_FAILED
    TRANSACTION_REFUSED: int = _error.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    SASL_FAILED: int = _error.SASL_AUTHENTICATION_FAILED
    POLICY_VIOLATION: int = _error.POLICY_VIOLATION
    TOO_LARGE: int = _error.MSG_SIZE_TOO_LARGE
    BATCH_TOO_LARGE: int = _error.RECORD_LIST_TOO_LARGE
    NO_LEADER: int = _error.LEADER_NOT_AVAILABLE
    NOT_LEADER: int = _error.NOT_LEADER_FOR_PARTITION
    STORAGE: int = _error.KAFKA_STORAGE_ERROR
    NEW_EPOCH: int = _error.UNKNOWN_LEADER_EPOCH
    OLD_EPOCH: int = _error.FENCED_LEADER_EPOCH
    NO_REPLICA: int = _error.REPLICA_NOT_AVAILABLE
    TOO_FEW: int = _error.NOT_ENOUGH_REPLICAS
    TOO_FEW_AFTER: int = _error.NOT_ENOUGH_REPLICAS_AFTER_APPEND
    NO_GROUP: int = _error.GROUP_ID_NOT_FOUND
    NO_COORDINATOR: int = _error.COORDINATOR_NOT_AVAILABLE


__all__ = [
    "READ_COMMITTED",
    "AdminClient",
    "Codes",
    "Consumer",
    "Failure",
    "GroupOffsets",
    "KafkaException",
    "Message",
    "NewTopic",
    "OffsetSpec",
    "Place",
    "Producer",
    "TopicCollection",
    "TopicPartition",
    "broker_resource",
    "failure_of",
    "topic_resource",
    "topic_setting",
]
