"""The delivery half: takes sealed segments out of the buffer and sees each to its end.

Never imports ingest or buffer.
"""
