"""Of two runs on one partition one wins whole and the other is told (P4): what was won is one chain of commits."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_assets_tests.proofs import races


@pytest.mark.parametrize("seed", range(3))
def test_the_successes_of_rival_writers_are_one_chain_without_a_lost_update(seed: int, tmp_path: Path) -> None:
    assert races.prove(("writers", f"{seed}"), tmp_path) == "writers met"
