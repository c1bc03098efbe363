"""Dead letters read back, in our own error output or wherever the real Amazon Data Firehose wrote them."""
