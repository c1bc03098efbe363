"""The ingest half: takes records from producers and sources, and answers once they are durable.

Never imports delivery or buffer.
"""
