"""`python -m firehose.cli`, for where the console script is not on the path."""

from firehose.cli import main

main()
