"""A sample of what `make proof` counts, tried with the same code."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline_assets_tests.proofs import mutants, races
from pipeline_assets_tests.proofs.proof import holds
from pipeline_assets_tests.proofs.subject import Case
from pipeline_assets_tests.proofs.subjects import SUBJECTS
from pipeline_assets_tests.support.system_calls import needs_strace

TRACED = "crash_points"


@pytest.mark.slow(100)
@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in sorted(SUBJECTS.keys() - {TRACED}) for kind in SUBJECTS[name].samples()]
)
def test_no_case_of_a_sample_refutes_the_claim(name: str, kind: str, tmp_path: Path) -> None:
    try_all(SUBJECTS[name].samples()[kind], name, tmp_path)


@pytest.mark.slow(60)
@needs_strace
def test_no_crash_point_of_a_sample_refutes_the_claim(tmp_path: Path) -> None:
    try_all(SUBJECTS[TRACED].sample(), TRACED, tmp_path)


def test_a_proof_goes_on_where_it_was_and_says_what_came_of_each_case(tmp_path: Path) -> None:
    few = replace(races.SUBJECT, cases=lambda: races.cases()[:2])
    more = replace(races.SUBJECT, cases=lambda: races.cases()[:3])
    notes = tmp_path / ".data" / "proofs" / "c0ffee" / "races.jsonl"

    assert holds(few, "c0ffee", tmp_path, workers=2)
    first = notes.read_text()
    assert holds(more, "c0ffee", tmp_path, workers=2)

    assert notes.read_text().startswith(first)
    assert len(notes.read_text().splitlines()) == 3
    proof = json.loads((tmp_path / "docs" / "proofs" / "races.json").read_text())
    assert (proof["claim"], proof["commit"], proof["cases"], proof["wrong"]) == (more.claim, "c0ffee", 3, [])
    assert (proof["seeds"], sum(proof["outcomes"]["writers"].values())) == (["0", "1", "2"], 3)


def test_a_case_that_refutes_the_claim_is_in_the_proof_with_what_it_raised(tmp_path: Path) -> None:
    impossible = replace(mutants.SUBJECT, cases=lambda: [("calendar.py", "no such kind", "0")])

    assert not holds(impossible, "c0ffee", tmp_path, workers=1)

    (wrong,) = json.loads((tmp_path / "docs" / "proofs" / "mutants.json").read_text())["wrong"]
    assert (wrong["case"], wrong["wrong"][:15]) == (["calendar.py", "no such kind", "0"], "AssertionError:")


def test_a_mutant_is_not_judged_by_tests_that_fail_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case, failing = mutants.cases()[0], tmp_path / "test_failing.py"
    failing.write_text("def test_that_fails():\n    assert False\n")
    monkeypatch.setattr(mutants, "tests_of", lambda _: [failing])
    monkeypatch.setattr(mutants, "status_unchanged", mutants.status_unchanged.__wrapped__)

    with pytest.raises(AssertionError, match="tests of the rule as it is do not pass"):
        mutants.prove(case, tmp_path / "mutant")


def try_all(cases: Sequence[Case], name: str, folder: Path) -> None:
    """Each case of a subject once; what refutes the claim is named with how to try it alone."""
    subject, outcomes = SUBJECTS[name], Counter[str]()
    assert len(set(cases)) == len(cases)
    for number, case in enumerate(cases):
        place = folder / f"{number}"
        place.mkdir()
        try:
            outcomes[subject.prove(case, place)] += 1
        except AssertionError as wrong:
            raise AssertionError(f"alone: SUBJECTS[{name!r}].prove({case!r}, folder)") from wrong
    assert outcomes.total() == len(cases) > 0
    assert not subject.is_refuted_by(outcomes), outcomes
