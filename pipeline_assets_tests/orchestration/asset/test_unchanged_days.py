"""With the tag `pipeline/skip_unchanged` a partition whose inputs and code did not change is recorded, not computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from pipeline_assets import Result, daily_asset
from pipeline_assets.errors import ContractBroken
from pipeline_assets.orchestration.finished_days import FinishedDay, listening
from pipeline_assets.orchestration.history.event_log import EventLog
from pipeline_assets.orchestration.history.graph import daily_graph
from pipeline_assets.orchestration.history.records import Records
from pipeline_assets.orchestration.history.tags import RANGE_END, RANGE_START, SKIP_UNCHANGED_TAG
from pipeline_assets.partition import Partition
from pipeline_assets.rules.accounting import Accounting
from pipeline_assets.rules.checks import Finding, check
from pipeline_assets.rules.staleness import react
from pipeline_assets.rules.windows import same_day, trailing
from pipeline_assets_tests.orchestration.lake import DAYS, QUIET, ROW, Asset, Lake, checks, day, key, numbers

LAST = 4
TAGGED = {SKIP_UNCHANGED_TAG: "true"}


@check(blocking=False)
def is_small(day: date, sums: pa.Table) -> Finding:
    """Not so on the last days."""
    (total,) = sums["n"].to_pylist()
    return Finding(total < 5, f"{day}: {total}", {"total": total})


@dataclass
class Shop:
    """`landed` by day, `sums` of three days of it with what was left out, `copies` of them, and what was called."""

    lake: Lake
    landed: dict[int, int] = field(default_factory=lambda: {number: number for number in range(LAST + 1)})
    versions: dict[str, str] = field(default_factory=dict)
    fails: set[int] = field(default_factory=set)
    called: list[str] = field(default_factory=list)
    told: list[FinishedDay] = field(default_factory=list)

    def assets(self) -> list[Asset]:
        def called(table: str, day: date) -> int:
            number = (day - date(2024, 2, 27)).days
            self.called.append(f"{table} {number}")
            if number in self.fails:
                raise ContractBroken("asked for")
            return number

        @daily_asset(partitions_def=DAYS, contract=ROW, code_version=self.versions.get("numbers_of", "1"))
        def numbers_of(day: date) -> pa.Table:
            return numbers(self.landed[called("numbers_of", day)])

        @daily_asset(
            partitions_def=DAYS,
            contract={"sums": ROW, "odd": ROW},
            ins={"numbers_of": trailing(days=3)},
            drops_rows=True,
            dead_letter="odd",
            checks=[is_small],
            code_version=self.versions.get("sums", "1"),
        )
        def sums(day: date, numbers_of: pa.Table) -> Result:
            called("sums", day)
            found = numbers_of["n"].to_pylist()
            rows = {"sums": numbers(sum(found)), "odd": numbers(*(each for each in found if each % 2))}
            odd = rows["odd"].num_rows
            return Result(iter([rows]), Accounting(read=odd + 1, kept=1, rejected=odd))

        @daily_asset(partitions_def=DAYS, contract=ROW, ins={"sums": same_day()})
        def copies(day: date, sums: pa.Table) -> pa.Table:
            called("copies", day)
            return sums

        return [numbers_of, sums, copies]

    def run(self, *tables: str, tags: dict[str, str] = TAGGED, last: int = LAST) -> dg.ExecuteInProcessResult:
        self.called.clear()
        self.told.clear()
        with listening(self.told.append):
            return dg.materialize(
                self.assets(),
                instance=self.lake.instance,
                resources={"io_manager": self.lake.manager},
                selection=list(tables) or None,
                tags={RANGE_START: key(0), RANGE_END: key(last), **tags},
                run_config=QUIET,
                raise_on_error=False,
            )

    def files(self) -> dict[str, tuple[int, int]]:
        return {
            str(path): (path.stat().st_ino, path.stat().st_mtime_ns)
            for path in sorted(self.lake.root.glob("*/dt=*/data.parquet"))
        }

    def records(self) -> dict[str, list[dict[str, Any]]]:
        """Of every partition, the newest first."""
        return {
            f"{table} {number}": made
            for table in ("numbers_of", "sums", "odd", "copies")
            for number, made in self.lake.recorded(table).items()
        }

    def wanted(self) -> Sequence[Any]:
        """What the sensor's rules would request."""
        graph = daily_graph(dg.Definitions(self.assets()).resolve_asset_graph())
        candidates = {Partition(lead, day(number)) for lead in graph.leads() for number in range(LAST + 1)}
        return react(
            graph,
            candidates,
            Records(EventLog(self.lake.instance, graph), self.lake.store),
            running=(),
            last_attempts={},
        ).requests

    def path(self, table: str, number: int) -> Path:
        return self.lake.root / table / f"dt={key(number)}" / "data.parquet"


@pytest.fixture
def shop(disk_lake: Lake) -> Shop:
    made = Shop(disk_lake)
    assert made.run(tags={}).success
    return made


def every(table: str) -> list[str]:
    return [f"{table} {number}" for number in range(LAST + 1)]


def test_what_did_not_change_is_not_computed_and_recorded_as_it_was(shop: Shop) -> None:
    files, before = shop.files(), shop.records()
    result = shop.run()
    assert result.success
    assert shop.called == []
    assert shop.files() == files
    after = shop.records()
    assert len(after) == 4 * (LAST + 1)
    for name, (made, *older) in after.items():
        assert older == before[name]
        why = made.pop("skipped")
        assert made == {**older[0], "unchanged": True}
        assert older[0]["code_version"] in why
    assert {(each.skipped, each.unchanged, each.error) for each in shop.told} == {(True, True, None)}
    odd = next(each for each in shop.told if (each.table, each.day) == ("sums", day(3)))
    assert (odd.rows, odd.read, odd.rejected) == (1, 3, 2)
    assert f"sums: {LAST + 1} of {LAST + 1} days were not computed" in shop.lake.log(result)
    assert shop.wanted() == []


def test_a_record_that_was_written_again_is_as_good_as_the_first(shop: Shop) -> None:
    assert shop.run().success
    assert shop.run().success
    assert shop.called == []
    assert {len(made) for made in shop.records().values()} == {3}


def test_without_the_tag_everything_is_computed(shop: Shop) -> None:
    assert shop.run(tags={SKIP_UNCHANGED_TAG: "false"}).success
    assert shop.called == [*every("numbers_of"), *every("sums"), *every("copies")]
    assert not any(each.skipped for each in shop.told)


def test_checks_say_of_what_was_skipped_what_they_said_when_it_was_computed(shop: Shop) -> None:
    skipped, computed = shop.run(), shop.run(tags={})
    assert not checks(skipped)["sums.is_small"].passed
    assert told(skipped) == told(computed)


def told(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    return {name: (each.passed, each.description, each.metadata) for name, each in checks(result).items()}


def _put_input(shop: Shop) -> None:
    shop.lake.put("numbers_of", 1, numbers(7))


def _change_code(shop: Shop) -> None:
    shop.versions["sums"] = "2"


def _remove_head(shop: Shop) -> None:
    shop.path("odd", 1).unlink()


def _replace_head(shop: Shop) -> None:
    shop.lake.put("odd", 1, numbers(7))


def _remove_input(shop: Shop) -> None:
    shop.path("numbers_of", 0).unlink()


@pytest.mark.parametrize(
    ("change", "computed"),
    [
        (_put_input, [1, 2, 3]),
        (_change_code, [0, 1, 2, 3, 4]),
        (_remove_head, [1]),
        (_replace_head, [1]),
        (_remove_input, [1, 2]),
    ],
)
def test_what_changed_is_computed_and_nothing_else(
    shop: Shop, change: Callable[[Shop], None], computed: list[int]
) -> None:
    change(shop)
    first = 1 if change is _remove_input else 0  # the day itself cannot be made without it
    tags = {**TAGGED, RANGE_START: key(first)}
    result = shop.run("sums", "odd", tags=tags)
    assert result.success
    assert shop.called == [f"sums {number}" for number in computed]
    assert {each.day for each in shop.told if each.skipped} == {
        day(number) for number in range(first, LAST + 1) if number not in computed
    }
    again = shop.run("sums", "odd", tags=tags)
    assert again.success
    assert shop.called == []


def test_an_input_that_appeared_is_computed_with(lake: Lake) -> None:
    shop = Shop(lake)
    for number in (0, 2, 3, 4):
        lake.put("numbers_of", number, numbers(number))
    days = {**TAGGED, RANGE_START: key(2)}
    result = shop.run("sums", "odd", tags=days)
    assert not checks(result)["sums.inputs_complete"].passed
    assert shop.run("sums", "odd", tags=days).success
    assert shop.called == []
    lake.put("numbers_of", 1, numbers(1))
    assert shop.run("sums", "odd", tags=days).success
    assert shop.called == ["sums 2", "sums 3"]


def test_a_day_that_was_made_without_an_input_says_so_again_when_it_is_skipped(lake: Lake) -> None:
    shop = Shop(lake)
    lake.put("numbers_of", 2, numbers(2))
    days = {**TAGGED, RANGE_START: key(2)}
    first = shop.run("sums", "odd", tags=days, last=2)
    again = shop.run("sums", "odd", tags=days, last=2)
    assert shop.called == []
    assert told(first) == told(again)
    assert not checks(again)["sums.inputs_complete"].passed


def test_downstream_in_the_same_run_sees_what_was_computed_and_what_came_out_the_same(shop: Shop) -> None:
    shop.versions["numbers_of"] = "2"
    shop.landed[3] = 10
    assert shop.run().success
    assert shop.called == [*every("numbers_of"), "sums 3", "sums 4", "copies 3", "copies 4"]
    assert shop.lake.rows("copies", 4) == [{"n": 2 + 10 + 4}]
    assert shop.wanted() == []


def test_a_step_that_reads_by_itself_is_never_skipped(lake: Lake) -> None:
    called = []

    @daily_asset(partitions_def=DAYS, contract=ROW, deps={"landing": same_day()})
    def reader(day: date) -> pa.Table:
        called.append(day)
        return numbers(1)  # it does not even say what it read

    for _ in range(2):
        tags = {RANGE_START: key(0), RANGE_END: key(1), **TAGGED}
        ran = dg.materialize(
            [reader], instance=lake.instance, resources={"io_manager": lake.manager}, tags=tags, run_config=QUIET
        )
        assert ran.success
    assert called == [day(0), day(1)] * 2


def test_days_that_were_skipped_are_recorded_though_another_fails(shop: Shop) -> None:
    shop.lake.put("numbers_of", LAST, numbers(7))
    shop.fails.add(LAST)
    assert not shop.run("sums", "odd").success
    made = shop.records()
    assert [len(made[name]) for name in every("sums")] == [2, 2, 2, 2, 1]
    assert "skipped" in made["odd 0"][0]
