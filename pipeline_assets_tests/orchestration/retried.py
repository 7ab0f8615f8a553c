"""Assets that fail as a script in a folder says, for tests whose steps and runs are processes of their own.

Every call of the user's function leaves a line in `calls`, so attempts are counted over processes. The scripts are
files named after the day: one word per attempt, the last one for ever.
"""

# No `from __future__ import annotations` here: Dagster looks at the annotation of `context` itself, not at its text.
import os
from collections import Counter
from datetime import date
from pathlib import Path

import dagster as dg
import pyarrow as pa

from pipeline_assets import daily_asset
from pipeline_assets.errors import ContractBroken, LandingUnavailable, PartitionConflict
from pipeline_assets_tests.orchestration.lake import DAYS, ROW, Impatient, key, numbers

FOLDER = "RETRIED_FOLDER"
TABLE = "scripted"


def write_script(folder: Path, number: int, *words: str) -> None:
    """What the function does on its first, second, ... call for a day: ok, reset, told, conflict, broken, bug, die."""
    (folder / f"{key(number)}.script").write_text(" ".join(words))


def calls(folder: Path) -> dict[str, int]:
    """How often the function was called, by day."""
    path = folder / "calls"
    return dict(Counter(path.read_text().split())) if path.exists() else {}


def _next_word(folder: Path, day: date) -> str:
    with (folder / "calls").open("a") as file:
        file.write(f"{day}\n")
    script = folder / f"{day}.script"
    words = script.read_text().split() if script.exists() else ["ok"]
    return words[min(calls(folder)[str(day)], len(words)) - 1]


@daily_asset(partitions_def=DAYS, contract=ROW)
def scripted(day: date) -> pa.Table:
    """Does what the script says."""
    word = _next_word(Path(os.environ[FOLDER]), day)
    if word == "reset":
        raise ConnectionResetError(word)
    if word == "told":
        raise LandingUnavailable(word, retry_after_seconds=600)
    if word == "conflict":
        raise PartitionConflict(word)
    if word == "broken":
        raise ContractBroken(word)
    if word == "bug":
        raise ValueError(word)
    if word == "die":
        os._exit(1)  # as if the machine had taken the process away
    return numbers(day.day)


@daily_asset(partitions_def=DAYS, contract=ROW)
def the_next(day: date) -> pa.Table:
    """Its worker dies."""
    os._exit(1)


@dg.asset(partitions_def=DAYS)
def plain(context: dg.AssetExecutionContext) -> None:
    """An asset that knows nothing of verdicts."""
    raise ValueError(_next_word(Path(os.environ[FOLDER]), date.fromisoformat(context.partition_key)))


def _definitions() -> dg.Definitions:
    folder = os.environ.get(FOLDER)
    if folder is None:  # imported by a test for the names alone
        return dg.Definitions()
    return dg.Definitions(
        [scripted, the_next, plain],
        resources={"io_manager": Impatient(root=str(Path(folder) / "lake"))},
        jobs=[
            dg.define_asset_job("one_process", [scripted], executor_def=dg.in_process_executor),
            dg.define_asset_job("many_processes", [scripted], executor_def=dg.multiprocess_executor),
            dg.define_asset_job("two_steps", [scripted, the_next], executor_def=dg.in_process_executor),
            dg.define_asset_job("plain_job", [plain], executor_def=dg.in_process_executor),
        ],
    )


defs = _definitions()


def job(name: str) -> dg.JobDefinition:
    """For `dg.reconstructable`."""
    return _definitions().resolve_job_def(name)


def one_process() -> dg.JobDefinition:
    """Steps run in the process of their run."""
    return job("one_process")


def many_processes() -> dg.JobDefinition:
    """Every attempt is a process."""
    return job("many_processes")
