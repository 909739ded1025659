"""The real parts on one machine without Docker: Java, Kafka, the registry, the services as processes."""

from deploy.local.errors import LocalError
from deploy.local.stack import Stack

__all__ = ["LocalError", "Stack"]
