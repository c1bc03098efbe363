"""Where the schema of a stream's tables comes from: given, read from a file or from Glue, or inferred and then kept."""
