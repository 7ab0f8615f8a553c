"""The files of `examples`, run together: the source's rows become the tables, the check warns, the channel is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

import examples
from examples.own_channel import AlertFile
from pipeline_assets import Channel, ParquetIOManager, PostOutcome
from pipeline_assets.assets.pipeline import reference_pipeline
from pipeline_assets.assets.source.select import load_source
from pipeline_assets.orchestration.alerts.sensor import alerts_sensor
from pipeline_assets.orchestration.asset.package import with_tables_of
from pipeline_assets.rules.alerts import Alert, Severity
from pipeline_assets.rules.outbox import Message
from pipeline_assets.store.landing import LandingZone

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
DAY = date(2026, 6, 10)
DAYS = dg.DailyPartitionsDefinition(DAY.isoformat())
ORDERS = f"""\
order_no,line,customer,kind,total,currency,ordered_at
1,1,ann,S,10.50,EUR,{DAY}T09:10:00Z
1,2,ann,S,2.25,EUR,{DAY}T09:10:00Z
2,1,guest,S,5,EUR,{DAY}T09:59:59Z
3,1,bob,R,-5,EUR,{DAY}T10:00:00Z
4,1,bob,S,7,USD,{DAY}T10:00:00Z
5,1,bob,S,much,EUR,{DAY}T10:00:00Z
"""


@dataclass(frozen=True)
class Shop:
    """The pipeline with the examples in it, after one day of orders was computed."""

    root: Path
    instance: dg.DagsterInstance
    definitions: dg.Definitions

    @property
    def alerts(self) -> Path:
        return self.root / "alerts.jsonl"

    def rows(self, table: str) -> list[dict[str, Any]]:
        path = self.root / "lake" / table / f"dt={DAY}" / "data.parquet"
        rows: list[dict[str, Any]] = pq.ParquetFile(path).read().to_pylist()
        return rows


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    root = tmp_path_factory.mktemp("shop")
    folder = root / "landing" / f"dt={DAY}"
    folder.mkdir(parents=True)
    (folder / "orders.csv").write_text(ORDERS, encoding="utf-8")
    tables = reference_pipeline(
        days=DAYS,
        landing=LandingZone(root / "landing"),
        source=load_source(EXAMPLES / "own_source.sql"),
        lateness_days=0,
    )
    tables = with_tables_of(examples, tables, partitions_def=DAYS, owners=["team:data"])
    sensor = alerts_sensor(
        dagster_url="http://dagster.example",
        channels=[AlertFile(root / "alerts.jsonl")],
        now=lambda: datetime.now(UTC) + timedelta(minutes=1),
    )
    resources = {"io_manager": ParquetIOManager(root=str(root / "lake"))}
    with dg.DagsterInstance.ephemeral() as instance:
        yield Shop(root, instance, dg.Definitions(tables, resources=resources, sensors=[sensor]))


@pytest.fixture(scope="module")
def computed(shop: Shop) -> dg.ExecuteInProcessResult:
    job = shop.definitions.resolve_implicit_global_asset_job_def()
    tick(shop)  # what was before the first one is not told
    return job.execute_in_process(
        instance=shop.instance,
        partition_key=DAY.isoformat(),
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


def tick(shop: Shop) -> None:
    context = dg.build_sensor_context(
        shop.instance, definitions=shop.definitions, sensor_name="alerts", repository_name="__repository__"
    )
    shop.definitions.get_repository_def().get_sensor_def("alerts")(context)


def test_the_source_makes_events_of_orders_and_says_why_a_row_is_none(
    shop: Shop, computed: dg.ExecuteInProcessResult
) -> None:
    assert computed.success
    assert [(row["event_id"], row["user_id"], row["event_type"]) for row in shop.rows("events")] == [
        ("1-1", "ann", "purchase"),
        ("1-2", "ann", "purchase"),
        ("2-1", None, "purchase"),
        ("3-1", "bob", "refund"),
    ]
    assert [(row["source_line"], row["rule"]) for row in shop.rows("rejected_events")] == [
        (6, "source_rule"),
        (7, "cast"),
    ]


def test_the_table_is_computed_with_all_others(shop: Shop, computed: dg.ExecuteInProcessResult) -> None:
    assert computed.success
    nine = datetime(2026, 6, 10, 9, tzinfo=UTC)
    assert shop.rows("spend_by_hour") == [
        {"hour": nine, "events": 3, "amount": Decimal("17.7500")},
        {"hour": nine + timedelta(hours=1), "events": 1, "amount": Decimal("-5.0000")},
    ]
    (spec,) = (spec for spec in shop.definitions.resolve_all_asset_specs() if spec.key.path == ["spend_by_hour"])
    assert (spec.owners, spec.partitions_def) == (["team:sales"], DAYS)


def test_the_check_warns_and_the_channel_is_told_of_it(shop: Shop, computed: dg.ExecuteInProcessResult) -> None:
    (found,) = [each for each in computed.get_asset_check_evaluations() if each.check_name == "refunds_are_few"]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    tick(shop)
    told = {line["title"]: line for line in map(json.loads, shop.alerts.read_text(encoding="utf-8").splitlines())}
    refunds = told[f"refunds: check refunds_are_few warns: {DAY}"]
    assert refunds["reason"] == f"{DAY}: 1 refunds, 3 purchases"
    assert (refunds["severity"], refunds["owners"], refunds["days"]) == ("alert", ["team:data"], [str(DAY)])


def test_a_channel_that_cannot_write_is_tried_again(tmp_path: Path) -> None:
    channel: Channel = AlertFile(tmp_path / "missing" / "alerts.jsonl")
    now = datetime.now(UTC)
    alert = Alert("key", Severity.ALERT, "title", "events", [DAY], "verdict", "reason")
    answer = channel.deliver(Message("id", alert, now, now), now=now)
    assert answer.outcome is PostOutcome.TRY_AGAIN
    assert "cannot be written: No such file or directory" in answer.reason


def test_every_example_is_run_here() -> None:
    used = {"own_channel.py", "own_check.py", "own_source.sql", "own_table.py"}
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == used
