"""`make proof`: try every case of the subjects at this commit, and write what came of them to docs/proofs.

Interrupted, it goes on where it was. A proof is of a commit: with changes that are not committed there is none.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline_assets_tests.proofs.subject import Case, Subject
from pipeline_assets_tests.proofs.subjects import SUBJECTS
from pipeline_assets_tests.support.session import start_session

ROOT = Path(__file__).resolve().parents[2]
PROOFS = ROOT / "docs" / "proofs"
TRIED = ROOT / ".data" / "proofs"
"""What was tried of each commit, a line a case."""


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
        held = [_holds(SUBJECTS[name], commit, asked.workers) for name in asked.subjects or SUBJECTS]
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; the same command goes on.\n")
        return 130
    finally:
        guardian.communicate()
    return 0 if all(held) else 1


def _holds(subject: Subject, commit: str, workers: int) -> bool:
    """Try what is left of a subject, and write its proof; False if its claim is refuted."""
    began, cases = time.monotonic(), list(subject.cases())
    assert len(set(cases)) == len(cases), f"{subject.name}: a case that stands twice is counted twice"
    notes = TRIED / commit / f"{subject.name}.jsonl"
    notes.parent.mkdir(parents=True, exist_ok=True)
    told = _noted(notes)
    left = [case for case in cases if case not in told]
    with notes.open("a") as file:
        for case, outcome in _tried(subject, left, workers):
            told[case] = outcome
            file.write(json.dumps({"case": case, **outcome}) + "\n")
            file.flush()
            sys.stderr.write(f"\r{subject.name}: {len(told)} of {len(cases)} ")
    wrong = [{"case": case, **told[case]} for case in cases if "wrong" in told[case]]
    sys.stderr.write(f"\r{subject.name}: {len(cases)} cases, {len(wrong)} wrong, {time.monotonic() - began:.0f} s\n")
    for each in wrong[:5]:
        sys.stderr.write(f"  {each['case']}: {each['wrong'].splitlines()[-1]}\n")
    PROOFS.mkdir(parents=True, exist_ok=True)
    proof = _proof(subject, commit, cases, told, wrong)
    (PROOFS / f"{subject.name}.json").write_text(json.dumps(proof, indent=2) + "\n")
    return not wrong and not subject.is_refuted_by(Counter(told[case]["outcome"] for case in cases))


def _tried(subject: Subject, cases: list[Case], workers: int) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Each case with its outcome, as they end."""
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = {pool.submit(outcome_of, subject.name, case): case for case in cases}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def outcome_of(name: str, case: Case) -> dict[str, Any]:
    """What came of a case: `outcome`, or `wrong` with the error."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="proof-") as folder:
        try:
            came = {"outcome": SUBJECTS[name].prove(case, Path(folder))}
        except Exception as error:  # noqa: BLE001 - whatever it is, it goes into the proof, which then fails
            came = {"wrong": f"{type(error).__name__}: {error}"}
    return {**came, "seconds": round(time.monotonic() - began, 2)}


def _proof(
    subject: Subject, commit: str, cases: list[Case], told: Mapping[Case, Any], wrong: list[dict[str, Any]]
) -> dict[str, Any]:
    outcomes: dict[str, Counter[str]] = {}
    for case in cases:
        outcomes.setdefault(case[0], Counter())[told[case].get("outcome", "wrong")] += 1
    return {
        "claim": subject.claim,
        "commit": commit,
        "cases": len(cases),
        "wrong": wrong,
        **(
            {subject.tolerated: [case for case in cases if told[case].get("outcome") == subject.tolerated]}
            if subject.tolerated
            else {}
        ),
        "outcomes": {kind: dict(sorted(counts.items())) for kind, counts in outcomes.items()},
        **({"seeds": [case[-1] for case in cases]} if subject.seeded else {}),
        "seconds_of_cases": round(sum(told[case]["seconds"] for case in cases)),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"make proof ARGS={subject.name}",
    }


def _noted(notes: Path) -> dict[Case, dict[str, Any]]:
    lines = notes.read_text().splitlines() if notes.exists() else []
    return {tuple(values.pop("case")): values for values in map(json.loads, lines)}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
