"""Dynamic partitioning (firehose.md section 9): which keys a stream's records have, and the partition each falls to."""
