"""`python -m benchmarks [NAME ...]`, which is what `make bench` runs; see `suite`."""

import sys

from benchmarks.suite import main

if __name__ == "__main__":
    sys.exit(main())
