"""Read by every Python process of a tortured service before anything else: a third party's destination, and a clock
that jumps.

The wall clock is ahead by the milliseconds that the file named by TORTURE_CLOCK says, in all processes at once. The
monotonic clock is left alone, as a real jump leaves it.
"""

import os
import time
from pathlib import Path

import moody

import destinations

destinations.TABLE.update(moody.TABLE)  # type: ignore[attr-defined]
_clock = Path(os.environ["TORTURE_CLOCK"])
_real = time.time_ns
time.time_ns = lambda: _real() + int(_clock.read_text()) * 1_000_000
