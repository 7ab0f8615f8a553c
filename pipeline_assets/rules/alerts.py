"""What is told to people: an alert, and what alerts of one cause have in common.

When alerts of a cause are told is decided in `troubles`, when they are sent in `outbox`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

DAYS_KEPT = 4000
"""Of a trouble. Ten years: more is no list for people."""
REASON_CHARACTERS = 1500
TITLE_CHARACTERS = 200


class Severity(StrEnum):
    """Says how loud an alert is: `info` is good news, `alert` can wait for the morning, `page` cannot."""

    INFO = "info"
    ALERT = "alert"
    PAGE = "page"


def loudest(first: Severity, *others: Severity) -> Severity:
    """Pick the loudest of some severities."""
    return max((first, *others), key=list(Severity).index)


@dataclass(frozen=True, slots=True)
class Alert:
    """A message for people, before it is sent.

    Args:
        key: two alerts with one key are the same alert; it is sent once.
        table: key of the asset, its path joined by "/".
        days: that it is about, ascending.
        verdict: of the retry rules; of what had none the status of a delivery, the name of a check, or what became of a
            run. In a word or two; `reason` is a sentence.
        run_id: of a Dagster run to look at.
    """

    key: str
    severity: Severity
    title: str
    table: str
    days: Sequence[date]
    verdict: str
    reason: str
    owners: Sequence[str] = ()
    run_id: str | None = None


def pattern_of(reason: str) -> str:
    """Strip from a reason what differs by day or run.

    Every word with a digit in it is "#", as are rows of such words; what stands in brackets with one is left out.
    """
    masked = re.sub(r"\S*\d\S*", "#", re.sub(r"\([^()]*\d[^()]*\)", " ", reason))
    return " ".join(re.sub(r"#(?:[\s,;]*(?:and|to|or)?\s*#)+", "#", masked).split())


def cause_of(alert: Alert) -> str:
    """What alerts of one trouble have in common: table, verdict and the pattern of the reason."""
    return f"{alert.table}|{alert.verdict}|{pattern_of(alert.reason)}"


def folded(alerts: Iterable[Alert]) -> list[Alert]:
    """Alerts that came together, those of one cause and severity as one, under the key of the first."""
    groups: dict[tuple[str, Severity], list[Alert]] = {}
    for alert in alerts:
        groups.setdefault((cause_of(alert), alert.severity), []).append(shortened(alert))
    merged = []
    for first, *others in groups.values():
        days = tuple(sorted({day for each in (first, *others) for day in each.days})[:DAYS_KEPT])
        title, reason = (
            counted(f"{first.table}: {first.verdict}", days),
            f"{first.reason} And {len(others)} similar alerts.",
        )
        merged.append(replace(first, days=days, title=title, reason=reason) if others else first)
    return merged


def shortened(alert: Alert) -> Alert:
    """Cut an alert's texts and days to what can be kept and sent."""
    title, reason = _cut(alert.title, TITLE_CHARACTERS), _cut(alert.reason, REASON_CHARACTERS)
    return replace(alert, title=title, reason=reason, days=tuple(alert.days[:DAYS_KEPT]))


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def counted(title: str, days: Sequence[date], runs: int = 1) -> str:
    """A title with how many days and runs it is about; a day that is alone is named."""
    parts = [str(days[0]) if len(days) == 1 else f"{len(days)} days"] if days else []
    parts += [f"{runs} runs"] if runs > 1 else []
    return f"{title}: {' in '.join(parts)}" if parts else title
