"""The command line, `firehose`: one file for each group of commands; what they do lives elsewhere in the project.

Exit status 0, 1 for a failure, 2 for a mistake in the command itself (DESIGN 7). A failure that people can mend is
told in words on standard error, never as a traceback.
"""

from __future__ import annotations

import os

from firehose import allocator


def main() -> None:
    for name, value in allocator.told().items():
        os.environ.setdefault(name, value)
    from firehose.cli.commands import app  # now: with it comes Arrow, which hears of nothing any more

    app()
