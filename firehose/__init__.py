"""A self-hosted Amazon Data Firehose: records in over HTTP, durable at once, delivered in batches."""

__version__ = "0.1.0"
