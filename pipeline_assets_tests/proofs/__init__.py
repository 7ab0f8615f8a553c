"""Promises that are counted: each subject is a claim, its cases, and what is done with one case.

`make proof` tries all cases of a commit and writes what came of them to docs/proofs; `make test-all` tries a sample of
the same cases with the same code. A case is tried once, so no count is reached by repeating one.
"""
