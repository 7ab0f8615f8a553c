"""What `make bench` runs: ratios against the raw limit, or a peer, measured in the same run.

Belongs here: one module per benchmark, with what it compares in its docstring, its `TARGETS`, and a `run` that gives
its figures. Does not: assertions about time; those would make a slow machine a broken build.
"""
