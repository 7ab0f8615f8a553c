"""The command `pipeline diff`: what it prints, and its exit status."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline_assets import cli
from pipeline_assets.assets.daily_sales import DAILY_SALES
from pipeline_assets.partition import Partition
from pipeline_assets.store import Seen
from pipeline_assets.store.local import LocalStore
from pipeline_assets_tests.support.commits import publish_table

FIRST = date(2026, 3, 1)
DAYS = 4


@dataclass
class Outcome:
    status: int
    out: str
    err: str


Diff = Callable[..., Outcome]


def sales(day: date, purchases: int) -> pa.Table:
    rows = [
        {"sales_date": day, "event_type": kind, "events": 1, "users": 1, "amount": Decimal(amount)}
        for kind, amount in (("purchase", purchases), ("view", 0))
    ]
    return pa.Table.from_pylist(rows, schema=DAILY_SALES.schema)


@pytest.fixture
def lakes(tmp_path: Path) -> Path:
    """Two lakes of four days, the last of which differs in one row of two."""
    for number in range(DAYS):
        day = FIRST + timedelta(days=number)
        for name, purchases in (("base", 10), ("other", 20 if number == DAYS - 1 else 10)):
            store = LocalStore(tmp_path / name)
            publish_table(store, Partition("daily_sales", day), sales(day, purchases), seen=Seen(None, None))
    return tmp_path


@pytest.fixture
def diff(lakes: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Diff:
    monkeypatch.chdir(lakes)
    for name in [name for name in os.environ if name.startswith("PIPELINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIPELINE_LANDING", str(lakes / "landing"))
    monkeypatch.setenv("PIPELINE_STORE", str(lakes / "other"))

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["pipeline", "diff", *arguments])
        status = 0
        try:
            cli.main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        said = capsys.readouterr()
        return Outcome(status, said.out, said.err)

    return run


def test_the_lake_of_the_settings_is_compared_with_a_base(diff: Diff, lakes: Path) -> None:
    outcome = diff(str(lakes / "base"))
    assert outcome.status == 0, outcome.err
    text = " ".join(outcome.out.split())
    assert text.startswith("1 of 1 table differs, 2026-03-01 to 2026-03-04.")
    assert "daily_sales: Differs on 1 day (2026-03-04): 1 row (12.5 %) differs. Rows are matched by event_type." in text
    assert "10.0000 → 20.0000 (+10.0000)" in text
    assert "event_type=purchase: 10.0000 → 20.0000" in text


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (("--max-changed-rows", "1"), 0),
        (("--max-changed-rows", "0"), 1),
        (("--max-changed-share", "0.125"), 0),
        (("--max-changed-share", "0.1"), 1),
        (("--max-changed-rows", "1", "--max-changed-share", "0.1"), 1),
        (("--max-changed-rows", "0", "--to", "2026-03-03"), 0),
        (("--max-changed-rows", "0", "--select", "daily_sales"), 1),
    ],
)
@pytest.mark.parametrize("form", ["table", "markdown", "json"])
def test_the_exit_status_tells_whether_the_threshold_holds(
    diff: Diff, lakes: Path, options: tuple[str, ...], status: int, form: str
) -> None:
    outcome = diff(str(lakes / "base"), str(lakes / "other"), "--format", form, *options)
    assert (outcome.status, outcome.err) == (status, "")
    if form == "json":
        assert json.loads(outcome.out)["within"] is (status == 0)
    else:
        assert ("beyond the threshold" in outcome.out) is (status == 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "nowhere is not a folder"),
        (("landing",), "landing is not a folder"),
        (("other",), "would be compared with itself"),
        (("base", "--select", "daily_sales,sales"), "neither lake has a table sales; tables: daily_sales"),
        (("base", "--select", ""), "neither lake has a table ; tables: daily_sales"),
        (("base", "--from", "2026-03-03", "--to", "2026-03-01"), "--from 2026-03-03 is after --to 2026-03-01"),
        (("base", "--from", "2026-04-01"), "has a day from 2026-04-01 to the last"),
        (("base", "--from", "yesterday"), "does not match the format"),
        (("base", "--max-changed-rows", "-1"), "-1 is not in the range"),
        (("base", "--max-changed-share", "1.5"), "1.5 is not in the range"),
        (("base", "--format", "html"), "'html' is not one of"),
        ((), "Missing argument 'BASE'"),
    ],
)
def test_wrong_input_is_one_message_and_status_2(
    diff: Diff, lakes: Path, arguments: tuple[str, ...], said: str
) -> None:
    outcome = diff(
        *(str(lakes / each) if each in {"nowhere", "landing", "base", "other"} else each for each in arguments)
    )
    assert outcome.status == 2
    assert said in outcome.err
    assert "Traceback" not in outcome.err
