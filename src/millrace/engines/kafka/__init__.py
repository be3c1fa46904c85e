"""The log on Kafka: see `engine`; the extra `millrace[kafka]` installs its client."""

from millrace.engines.kafka.engine import KafkaEngine
from millrace.engines.kafka.settings import KafkaSettings

__all__ = ["KafkaEngine", "KafkaSettings"]
