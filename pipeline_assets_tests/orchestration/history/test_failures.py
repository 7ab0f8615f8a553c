"""What a step failed of, as its event keeps it. That it is read back, `test_table` and the sensor's tests say."""

from __future__ import annotations

from datetime import UTC, date, datetime

from pipeline_assets.orchestration.history.failures import RecordedFailure, failure_metadata
from pipeline_assets.rules.alerts import Severity


def test_a_failure_is_kept_under_the_names_that_older_event_logs_have() -> None:
    days = tuple(date(2026, 1, number) for number in (1, 2, 3))
    failure = RecordedFailure(
        "run",
        "step",
        ("a", "b"),
        "network",
        "landing_unavailable",
        Severity.ALERT,
        "a file named \udcff",
        days[:1],
        days[1:],
        may_retry=True,
        not_before=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        attempts=1,
        max_attempts=5,
    )

    assert failure_metadata([failure])["judgements"].value == [
        {
            "tables": ["a", "b"],
            "verdict": "network",
            "kind": "landing_unavailable",
            "severity": "alert",
            "reason": "a file named \udcff",
            "failed_days": ["2026-01-01"],
            "days_not_attempted": ["2026-01-02", "2026-01-03"],
            "may_retry": True,
            "not_before": "2026-01-02T03:04:05Z",
            "attempts": 1,
            "max_attempts": 5,
            "format": 1,
        }
    ]
