"""The sensor `alerts`: gathers what went wrong, folds it to one message a cause, and delivers it until it has arrived.

A message is stored before it is posted, and taken out right after. So what a restart can cause is one repetition, of a
message whose answer never came or was never noted; it has the same `id`. What is told, and when, is decided in
`rules.alerts` and `rules.outbox`; how, by each channel.
"""

import logging
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import dagster as dg

from pipeline_assets.errors import PipelineError
from pipeline_assets.orchestration.alerts.channel import Answer, Channel, PostOutcome
from pipeline_assets.orchestration.alerts.ended_runs import busy_tables, committed_since, finished_runs
from pipeline_assets.orchestration.alerts.incidents import OwnAssets, incidents_of, unreadable
from pipeline_assets.orchestration.alerts.memory import AlertMemory, SentKeys, unseen
from pipeline_assets.orchestration.alerts.webhook import Links, line
from pipeline_assets.orchestration.sla.sensor import sla_alerts
from pipeline_assets.rules.alerts import Alert, Severity, folded
from pipeline_assets.rules.outbox import Message, Outbox, postponed, put, ready, without
from pipeline_assets.rules.troubles import mended, note, settle

INTERVAL_SECONDS = 15
DELIVERIES_SECONDS = 20.0
"""After this long no delivery of the tick begins. The daemon gives up a tick after 60, and one delivery takes 10."""
_LEVELS = {Severity.INFO: logging.INFO, Severity.ALERT: logging.WARNING, Severity.PAGE: logging.ERROR}

Gatherer = Callable[[dg.SensorEvaluationContext, datetime, Container[str]], Iterable[Alert]]
"""Gives alerts at a moment, knowing the keys that were told. It may give the same at every tick: a key is told once.
"""


def missed_slas(watched: dg.Definitions) -> Gatherer:
    """Gathers misses, and their recoveries, of the assets among `watched` that have a due."""

    def missed_slas(context: dg.SensorEvaluationContext, now: datetime, told: Container[str]) -> list[Alert]:
        return sla_alerts(context.instance, watched, sent=told, now=now)

    return missed_slas


def alerts_sensor(
    *,
    dagster_url: str,
    channels: Sequence[Channel] = (),
    gather: Sequence[Gatherer] = (),
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    monotonic: Callable[[], float] = time.monotonic,
) -> dg.SensorDefinition:
    """The sensor that tells people of failed runs, of warnings of `@check(..., alert=True)`, and of what is gathered.

    Args:
        dagster_url: where people open the UI.
        channels: each gets every message; without one they are in the log alone.
        gather: further sources of alerts.

    Raises:
        ValueError: two channels have one name.
    """
    links = Links(dagster_url)
    names = [channel.name for channel in channels]
    if len(set(names)) < len(names):
        raise ValueError(
            f"two channels have one name: {', '.join(names)}; messages that are still to be delivered lie under it"
        )
    one_at_a_time = threading.Lock()  # a tick that is tried out in the UI runs beside the daemon's

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=default_status,
        description="Tells of failed runs, missed SLAs and rejected rows: once a cause, to its channels and this log.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        with one_at_a_time:
            tick = AlertTick(context, links, channels, now, monotonic)
            tick.gather(gather)
            tick.deliver()
        if tick.problems:
            raise PipelineError(f"alerts: {'; '.join(tick.problems)}. All else went on.")
        return dg.SkipReason(tick.summary())

    return alerts


class AlertTick:
    """One evaluation of the sensor `alerts`.

    Args:
        problems: what went wrong, in sentences; the tick is shown as failed once everything else is done.
    """

    def __init__(
        self,
        context: dg.SensorEvaluationContext,
        links: Links,
        channels: Sequence[Channel],
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self.context, self.links, self.channels = context, links, channels
        self.now, self.monotonic = now, monotonic
        self.problems: list[str] = []
        self.delivered = 0
        self.memory = AlertMemory(context.instance, context.repository_name)
        self.state, problem = self.memory.load(now=now())
        if problem is not None:
            self._fail(problem)

    def gather(self, gatherers: Sequence[Gatherer]) -> None:
        """Look at finished runs and ask the gatherers; what is to be told goes to the log and into the outboxes."""
        moment = self.now()
        with self._noting("finished runs"):
            self._look_at_runs(moment)
        found, told = list[Alert](), SentKeys(self.state.seen)
        for gatherer in gatherers:
            with self._noting(getattr(gatherer, "__name__", type(gatherer).__name__)):
                found += gatherer(self.context, moment, told)
        fresh, seen = unseen(self.state.seen, found, now=moment)
        self.state = replace(self.state, seen=seen)
        for alert in [*self._settled(moment), *folded(fresh)]:
            self._tell(alert, moment)
        self.memory.store(self.state)

    def deliver(self) -> None:
        """Send what is in the outboxes, of each channel until it is empty or the channel fails, or the time is up."""
        began = self.monotonic()
        for channel in self.channels:
            for message in ready(self._outbox(channel), now=self.now()):
                if self.monotonic() - began > DELIVERIES_SECONDS:
                    later = "no time is left in this tick; other messages go with the next one"
                    self.context.log.warning(f"alerts: {later}")
                    return
                if not self._deliver(channel, message):
                    break

    def summary(self) -> str:
        """Sum up a tick that went well."""
        held = sum(trouble.untold > 0 for trouble in self.state.troubles.values())
        waiting = sum(len(outbox.messages) for outbox in self.state.outboxes.values())
        return f"{self.delivered} messages delivered, {waiting} to be delivered, {held} causes held back for now"

    def _deliver(self, channel: Channel, message: Message) -> bool:
        """True unless the channel is to be left alone until later."""
        title, outbox = message.alert.title, self._outbox(channel)
        try:
            answer = channel.deliver(message, now=self.now())
        except Exception as error:
            self.context.log.exception(f"alerts: the channel {channel.name} raised an error")
            answer = Answer(PostOutcome.TRY_AGAIN, f"the channel {channel.name} raised {type(error).__name__}: {error}")
            self.problems.append(f"not delivered: {title}: {answer.reason}")
        if answer.outcome is PostOutcome.TRY_AGAIN:
            seconds = answer.retry_after_seconds
            outbox, is_given_up = postponed(outbox, message, now=self.now(), retry_after_seconds=seconds)
        else:
            outbox, is_given_up = without(outbox, message), False
        self._put(channel, outbox)
        self.memory.store(self.state)
        if is_given_up:
            self._fail(f"given up since {message.queued:%Y-%m-%d %H:%M} UTC: {title}: {answer.reason}")
        elif answer.outcome is PostOutcome.TRY_AGAIN:
            self.context.log.warning(f"alerts: not delivered, tried again later: {title}: {answer.reason}")
        elif answer.outcome is PostOutcome.REFUSED:
            self._fail(f"not delivered, and not tried again: {title}: {answer.reason}")
        else:
            self.delivered += 1
        return answer.outcome is not PostOutcome.TRY_AGAIN

    def _look_at_runs(self, moment: datetime) -> None:
        instance = self.context.instance
        ended, looked_at = finished_runs(instance, self.state.looked_at, now=moment)
        troubles = dict(self.state.troubles)
        ours = self._ours()
        for record in ended:
            incidents = None
            with self._noting(f"what went wrong in run {record.dagster_run.run_id}"):
                incidents = list(incidents_of(instance, record, ours))
            for incident in unreadable(record, ours) if incidents is None else incidents:
                troubles = note(troubles, incident)
        self.state = replace(self.state, troubles=troubles, looked_at=looked_at)

    def _settled(self, moment: datetime) -> Sequence[Alert]:
        troubles, instance, busy = dict(self.state.troubles), self.context.instance, set[str]()
        with self._noting("what became of failed days"):
            for cause, trouble in troubles.items():
                if trouble.ends_when_committed:
                    commits = committed_since(instance, trouble.alert.table, trouble.open_days)
                    troubles[cause] = mended(trouble, commits)
            if any(trouble.untold for trouble in troubles.values()):
                busy = busy_tables(instance, self._ours().tables)
        settled = settle(troubles, now=moment, busy=busy)
        for text in settled.unsaid:
            self.context.log.info(f"alerts: {text}")
        self.state = replace(self.state, troubles=settled.troubles)
        return settled.messages

    def _ours(self) -> OwnAssets:
        if self.context.repository_def is None:
            raise PipelineError("the sensor was evaluated without its code location: pass definitions to the context")
        origin = self.context.code_location_origin
        location_name = None if origin is None else origin.location_name
        return OwnAssets.of(self.context.repository_def, location_name=location_name)

    def _tell(self, alert: Alert, moment: datetime) -> None:
        self.context.log.log(_LEVELS[alert.severity], line(alert, self.links))
        for channel in self.channels:
            outbox, dropped = put(self._outbox(channel), alert, now=moment)
            self._put(channel, outbox)
            for message in dropped:
                self._fail(f"the outbox is full, never delivered: {message.alert.title}")

    @contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        """Go on after an error: it is logged, and fails the tick when everything else is done."""
        try:
            yield
        except Exception as error:
            self.context.log.exception(f"alerts: {what} could not be gathered")
            self.problems.append(f"{what} could not be gathered: {type(error).__name__}: {error}")

    def _fail(self, problem: str) -> None:
        self.context.log.error(f"alerts: {problem}")
        self.problems.append(problem)

    def _outbox(self, channel: Channel) -> Outbox:
        return self.state.outboxes.get(channel.name, Outbox())

    def _put(self, channel: Channel, outbox: Outbox) -> None:
        self.state = replace(self.state, outboxes={**self.state.outboxes, channel.name: outbox})
