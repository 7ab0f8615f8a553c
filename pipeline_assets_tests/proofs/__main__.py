"""`make proof`: try every case of the subjects at this commit, and write what came of them to docs/proofs.

Interrupted, it goes on where it was. A proof is of a commit: with changes that are not committed there is none.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from pipeline_assets_tests.proofs.proof import holds
from pipeline_assets_tests.proofs.subjects import SUBJECTS
from pipeline_assets_tests.support.session import start_session

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Exit status 0 if every claim held, 1 if a case refuted one, 2 if there can be no proof."""
    parser = argparse.ArgumentParser(prog="make proof ARGS=...", description=__doc__)
    parser.add_argument("subjects", nargs="*", help=f"of {', '.join(SUBJECTS)}; all if none is named")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="cases tried at once (default: one a core)")
    asked = parser.parse_args()
    if unknown := set(asked.subjects) - SUBJECTS.keys():
        parser.error(f"no such subject: {', '.join(sorted(unknown))}")

    changed = _git("status", "--porcelain", "--", ".", ":!docs/proofs")
    if changed:
        sys.stderr.write(f"Commit first: a proof is of a commit, and these differ from it.\n{changed}\n")
        return 2
    guardian, commit = start_session(), _git("rev-parse", "HEAD")
    try:
        held = [holds(SUBJECTS[name], commit, ROOT, workers=asked.workers) for name in asked.subjects or SUBJECTS]
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; the same command goes on.\n")
        return 130
    finally:
        guardian.communicate()
    return 0 if all(held) else 1


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
