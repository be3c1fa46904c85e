"""The log on Kafka: see `engine`; the extra `millrace[kafka]` installs its client."""

from millrace.engines.kafka.engine import KafkaEngine
from millrace.engines.kafka.settings import KafkaSettings, read_properties

__all__ = ["KafkaEngine", "KafkaSettings", "read_properties"]
