"""The SLA report for programs: names that stay, units in them, times that sort."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta, timezone
from typing import Any

import pytest

from pipeline_assets.report.sla_json import sla_json
from pipeline_assets_tests.report import reports
from pipeline_assets_tests.report.reports import LAST, miss, on_time, report_of, table_of


def loaded(text: str) -> Any:
    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_report_is_told_with_all_its_numbers() -> None:
    table = table_of("events", [on_time("events", LAST - timedelta(days=1)), miss("events", LAST, detail="disk full")])

    assert loaded(sla_json(report_of(table))) == {
        "first": "2026-10-22",
        "last": "2026-11-20",
        "made_at": "2026-11-21T08:15:00+00:00",
        "tables": [
            {
                "table": "events",
                "owners": ["team:data"],
                "due": "by 06:00 Europe/London, 1 day after",
                "timezone": "Europe/London",
                "next_deadline": "2026-11-22T06:00:00+00:00",
                "objective": 0.95,
                "on_time_share": 0.5,
                "due_days": 2,
                "missed_days": 1,
                "budget_days": 0.1,
                "budget_left_days": -0.9,
                "lateness_p50_seconds": 2400,
                "lateness_p95_seconds": 2400,
                "duration_mean_seconds": 40,
                "duration_p95_seconds": 40,
                "duration_trend_seconds_per_day": None,
                "deliveries": [
                    {
                        "day": "2026-11-19",
                        "deadline": "2026-11-20T06:00:00+00:00",
                        "standing": "on time",
                        "delivered": "2026-11-20T05:30:00+00:00",
                        "late_seconds": None,
                        "duration_seconds": 40,
                        "cause": None,
                        "detail": "",
                        "run_id": "0f0e0d0c-0000-4000-8000-000000000001",
                    },
                    {
                        "day": "2026-11-20",
                        "deadline": "2026-11-21T06:00:00+00:00",
                        "standing": "late",
                        "delivered": "2026-11-21T06:40:00+00:00",
                        "late_seconds": 2400,
                        "duration_seconds": None,
                        "cause": "failed",
                        "detail": "disk full",
                        "run_id": "5a5b5c5d-0000-4000-8000-00000000000f",
                    },
                ],
            }
        ],
    }


def test_keys_are_sorted_so_that_reports_can_be_compared_as_text() -> None:
    text = sla_json(reports.month())

    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False)
    assert text == sla_json(reports.month())


def test_a_report_without_tables_or_days_is_a_report() -> None:
    assert loaded(sla_json(report_of()))["tables"] == []
    (new,) = loaded(sla_json(reports.nothing_due_yet()))["tables"]
    assert (new["on_time_share"], new["due_days"], new["deliveries"]) == (None, 0, [])


def test_times_are_utc_whatever_zone_they_were_given_in() -> None:
    tokyo = timezone(timedelta(hours=9))
    report = dataclasses.replace(report_of(), made_at=reports.MADE_AT.astimezone(tokyo))

    assert loaded(sla_json(report))["made_at"] == "2026-11-21T08:15:00+00:00"


def test_a_number_that_is_none_is_refused_rather_than_written_as_nan() -> None:
    table = dataclasses.replace(reports.month().tables[0], duration_mean_seconds=float("nan"))

    with pytest.raises(ValueError, match="not JSON compliant"):
        sla_json(report_of(table))
