"""A process that recomputes a lake again and again, and kills itself at it.

It imports once and forks for every run: `python -m ... LAKE`. For every line `LANDING SECONDS` on its input it
recomputes the lake from that landing zone, kills that run after so many seconds, and prints how it ended: the signal's
number, or 0 when it was done before.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from pipeline_assets_tests.orchestration import shop


def main(lake: Path) -> None:
    """Fork a run per line."""
    for line in sys.stdin:
        landing, seconds = line.split()
        child = os.fork()
        if child == 0:
            shop.run(Path(landing), lake, shop.FEW_DAYS)
            os._exit(0)
        deadline = time.monotonic() + float(seconds)
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                ended = os.waitpid(child, 0)
                break
            time.sleep(0.001)
        sys.stdout.write(f"{ended[1]}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
