"""The clock of all judgements: it never steps and goes on during suspend."""

import time


def boottime_ms() -> int:
    """Milliseconds of CLOCK_BOOTTIME."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
