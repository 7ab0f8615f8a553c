"""Where the marks of a report's plots are. What they look like is the template's business."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import chain, count

from pipeline_assets.partition import days_between
from pipeline_assets.report.words import STATUSES, cause, duration, local, long_day
from pipeline_assets.rules.sla import Delivery, DeliveryStatus, SlaReport, TableReport

# All lengths are units of the plots' view boxes, about a CSS pixel: two plots side by side on a wide window, one on a
# phone, where a unit is three quarters of a pixel and the style sheet makes the text larger.
WIDTH, HEIGHT = 480, 230
LEFT, RIGHT, TOP, BOTTOM = 106, 8, 16, 34
OFF_SCALE_Y = 30
"""Middle of the band at the top, for what came beyond the scale or not at all."""
STRIP_WIDTH, STRIP_HEIGHT = 300, 18
LATE_SCALE_SECONDS = 6 * 3600.0
"""Lateness up to here is always on the scale. Beyond, one old day computed anew would flatten all others."""
GRID_LINES = 4
TICKS = 5
_STEPS_SECONDS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 15.0, 30.0),
    *(60.0 * minutes for minutes in (1, 2, 5, 10, 15, 30)),
    *(3600.0 * hours for hours in (1, 2, 3, 6, 12)),
)
_DAY_SECONDS = 86_400.0
_LABEL_UNITS = ((_DAY_SECONDS, _DAY_SECONDS, "d"), (1800.0, 3600.0, "h"), (60.0, 60.0, "min"), (1.0, 1.0, "s"))
"""From which step on, seconds, name. Half hours are told as such: 0.5 h is shorter than 30 min."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One due day. `status` chooses shape and colour; `height` is a bar's."""

    x: float
    y: float
    size: float
    status: DeliveryStatus
    title: str
    height: float = 0.0


@dataclass(frozen=True, slots=True)
class Line:
    """A grid line with its label, or, with `x` alone, a tick of the days."""

    label: str
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True, slots=True)
class Plot:
    """Everything that is drawn. Marks that matter most come last, on top of the others."""

    title: str
    description: str
    marks: Sequence[Mark]
    zero_y: float
    grid: Sequence[Line] = ()
    ticks: Sequence[Line] = ()
    off_scale_seconds: float | None = None  # lateness from which on marks are in the band at the top
    has_band: bool = False
    trend: tuple[float, float, float, float] | None = None  # x1, y1, x2, y2


class _Days:
    """The axis that all plots share: one place per day of the report, whether it was due or not."""

    def __init__(self, first: date, last: date, left: float, right: float) -> None:
        self.all = days_between(first, last)
        self.step = (right - left) / max(len(self.all), 1)
        self._first, self._left = first, left

    def x(self, day: date) -> float:
        return self._left + ((day - self._first).days + 0.5) * self.step

    def ticks(self) -> list[Line]:
        every = max(math.ceil(len(self.all) / TICKS), 1)
        return [Line(f"{day.day} {day:%b}", x=_round(self.x(day))) for day in self.all[::every]]


def delivery_plot(report: SlaReport, table: TableReport) -> Plot:
    """When each day was delivered, measured from its deadline: below the line in time, above it late."""
    days = _Days(report.first, report.last, LEFT, WIDTH - RIGHT)
    came = [(each.delivered - each.deadline).total_seconds() for each in table.deliveries if each.delivered]
    early = max([0.0, *(-offset for offset in came)])
    limit = max(LATE_SCALE_SECONDS, early, 2 * (table.lateness_p50_seconds or 0.0))
    late = max([0.0, *(offset for offset in came if offset <= limit)])
    clipped = any(offset > limit for offset in came)
    absent = len(came) < len(table.deliveries)
    step = _nice_step(max((early + late) / GRID_LINES, 60.0))
    low, high = max(math.ceil(early / step), not late), math.ceil(late / step)
    top = OFF_SCALE_Y + 24 if clipped or absent else TOP
    scale = (HEIGHT - BOTTOM - top) / ((low + high) * step)
    zero_y = top + high * step * scale

    def y(each: Delivery) -> float:
        offset = (each.delivered - each.deadline).total_seconds() if each.delivered else math.inf
        return _round(zero_y - offset * scale) if offset <= limit else OFF_SCALE_Y

    return Plot(
        title=f"{table.table}: delivery against the deadline",
        description=_described(table),
        marks=_marks(table, days, y, lambda each: told(each, table.timezone)),
        zero_y=_round(zero_y),
        grid=[Line(_from_deadline(n, step), y=_round(zero_y - n * step * scale)) for n in range(-low, high + 1)],
        ticks=days.ticks(),
        off_scale_seconds=limit if clipped else None,
        has_band=clipped or absent,
    )


def duration_plot(report: SlaReport, table: TableReport) -> Plot | None:
    """How long each day took to compute, with the trend; None when no duration is known."""
    timed = [(each, each.duration_seconds) for each in table.deliveries if each.duration_seconds is not None]
    if not timed:
        return None
    days = _Days(report.first, report.last, LEFT, WIDTH - RIGHT)
    longest = max(0.001, *(seconds for _, seconds in timed))
    step = _nice_step(longest / GRID_LINES)
    lines = math.ceil(longest / step - 1e-9)
    floor = HEIGHT - BOTTOM
    scale = (floor - TOP) / (lines * step)
    marks = [
        Mark(
            x=_round(days.x(each.day)),
            y=_round(floor - seconds * scale),
            size=_round(max(days.step * 0.7, 0.8)),
            status=each.status,
            title=f"{long_day(each.day)}: {duration(seconds)}, {STATUSES[each.status]}",
            height=_round(max(seconds * scale, 0.5)),
        )
        for each, seconds in timed
    ]
    mean, p95 = duration(table.duration_mean_seconds), duration(table.duration_p95_seconds)
    return Plot(
        title=f"{table.table}: how long a day takes",
        description=f"{len(timed)} days, mean {mean}, p95 {p95}.",
        marks=marks,
        zero_y=floor,
        grid=[Line(_label(number, step), y=_round(floor - number * step * scale)) for number in range(lines + 1)],
        ticks=days.ticks(),
        trend=_trend_line(table, timed, days, floor, scale),
    )


def strip(report: SlaReport, table: TableReport) -> Plot:
    """Draw all days of a table in one line."""
    days, middle = _Days(report.first, report.last, 0, STRIP_WIDTH), STRIP_HEIGHT / 2
    marks = _marks(table, days, lambda _: middle, lambda each: f"{long_day(each.day)}: {STATUSES[each.status]}")
    return Plot(f"{table.table}, day by day", _described(table), marks, zero_y=middle)


def told(each: Delivery, timezone: str) -> str:
    """Tell of one due day in a sentence."""
    words = f"{long_day(each.day)}: {STATUSES[each.status]}"
    if each.delivered is not None:
        words += f", delivered {local(each.delivered, timezone)}"
    words += f", deadline {local(each.deadline, timezone)}"
    if each.late_seconds is not None:
        words += f", {duration(each.late_seconds)} late"
    if each.cause is not None:
        words += f": {cause(each)}"
    return words


def _trend_line(
    table: TableReport, timed: Sequence[tuple[Delivery, float]], days: _Days, floor: float, scale: float
) -> tuple[float, float, float, float] | None:
    """The least squares line: it goes through the means with the report's slope. Cut off where it leaves the plot."""
    slope, mean = table.duration_trend_seconds_per_day, table.duration_mean_seconds
    if slope is None or mean is None or len(timed) < 2:  # noqa: PLR2004 - a line takes two points
        return None
    numbers = [each.day.toordinal() for each, _ in timed]
    middle = sum(numbers) / len(numbers)

    def y(each: Delivery) -> float:
        return _round(min(max(floor - (mean + slope * (each.day.toordinal() - middle)) * scale, 0), floor))

    first, last = timed[0][0], timed[-1][0]
    return _round(days.x(first.day)), y(first), _round(days.x(last.day)), y(last)


def _described(table: TableReport) -> str:
    return f"{len(table.deliveries)} days were due, {len(table.misses)} of them were missed."


def _marks(
    table: TableReport, days: _Days, y: Callable[[Delivery], float], title: Callable[[Delivery], str]
) -> list[Mark]:
    """A mark for each due day, misses last."""
    marks = [
        Mark(_round(days.x(each.day)), y(each), _size(days.step, each.status), each.status, title(each))
        for each in table.deliveries
    ]
    return sorted(marks, key=lambda mark: mark.status is not DeliveryStatus.ON_TIME)


def _size(step: float, status: DeliveryStatus) -> float:
    """Radius of a mark. However many days there are, a miss can be seen."""
    least = 1.2 if status is DeliveryStatus.ON_TIME else 4.0
    return _round(min(max(step * 0.36, least), 6.0))


def _nice_step(wanted_seconds: float) -> float:
    """The least step that is easy to read and not smaller than what is wanted."""
    days = (_DAY_SECONDS * 2.0**doublings for doublings in count())
    return next(step for step in chain(_STEPS_SECONDS, days) if step >= wanted_seconds)


def _from_deadline(steps: int, step_seconds: float) -> str:
    if steps == 0:
        return "deadline"
    return f"{_label(abs(steps), step_seconds)} {'late' if steps > 0 else 'early'}"


def _label(steps: int, step_seconds: float) -> str:
    """All labels of an axis are in one unit."""
    for least_seconds, unit_seconds, unit in _LABEL_UNITS:
        if step_seconds >= least_seconds:
            return f"{steps * step_seconds / unit_seconds:g} {unit}"
    return f"{round(steps * step_seconds * 1000)} ms"


def _round(value: float) -> float:
    """A hundredth of a unit is not seen."""
    return round(value, 2)
