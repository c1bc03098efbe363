"""The data stream: a sharded, replayable log with the API of Kinesis Data Streams."""
