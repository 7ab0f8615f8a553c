"""A proof: every case of a subject is tried, noted as it ends, and what came of all is written to a file."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
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


def holds(subject: Subject, commit: str, root: Path, *, workers: int) -> bool:
    """Try what is left of a subject, and write its proof; False if its claim is refuted.

    Args:
        root: of the checkout: notes are kept in `.data/proofs`, the proof in `docs/proofs`.
    """
    began, cases = time.monotonic(), list(subject.cases())
    assert len(set(cases)) == len(cases), f"{subject.name}: a case that stands twice is counted twice"
    notes = root / ".data" / "proofs" / commit / f"{subject.name}.jsonl"
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
    proof, proofs = _proof(subject, commit, cases, told, wrong), root / "docs" / "proofs"
    proofs.mkdir(parents=True, exist_ok=True)
    (proofs / f"{subject.name}.json").write_text(json.dumps(proof, indent=2) + "\n")
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
