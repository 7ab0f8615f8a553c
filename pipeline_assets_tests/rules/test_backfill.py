"""What plans say of the shop's tables, a promise by an example; test_backfill_model holds all of it to brute force."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

import pytest

from pipeline_assets.partition import Partition
from pipeline_assets.record import Record
from pipeline_assets.rules.backfill import (
    Action,
    Ask,
    Entry,
    Estimate,
    Facts,
    Made,
    Mode,
    Plan,
    Reason,
    Spread,
    TableProgress,
    chain,
    chunks,
    differences,
    only,
    plan,
    stretches_of,
    total,
)
from pipeline_assets.rules.graph import Graph, Table
from pipeline_assets.rules.windows import arrivals, same_day, trailing

FIRST, LAST = date(2028, 2, 1), date(2028, 3, 31)  # a leap year: 14 February and 28 days end on 14 March
MIDNIGHT = datetime(2028, 4, 1, tzinfo=UTC)
TABLES = (
    Table("landing", {}),
    Table("raw", {"landing": same_day()}),
    Table("rejected", {"landing": same_day()}),
    Table("events", {"raw": arrivals(lateness_days=3)}),
    Table("sales", {"events": same_day()}),
    Table("features", {"events": trailing(days=28)}),
    Table("segments", {"features": same_day()}),
)
SHOP = Graph(
    {table.name: table for table in TABLES},
    {**{table.name: (table.name,) for table in TABLES}, "raw": ("raw", "rejected"), "rejected": ("raw", "rejected")},
    frozenset({"landing"}),
    dict.fromkeys((table.name for table in TABLES), FIRST),
)
STEPS = ("raw", "events", "sales", "features", "segments")


def feb(day: int) -> date:
    return date(2028, 2, day)


def mar(day: int) -> date:
    return date(2028, 3, day)


def days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


@dataclass
class Shop:
    """A lake where everything is made from what is upstream now, until something is done to it."""

    graph: Graph = SHOP
    heads: dict[str, dict[date, str]] = field(default_factory=dict)
    made: dict[str, dict[date, Record]] = field(default_factory=dict)
    failed: set[Partition] = field(default_factory=set)
    unrecorded: set[Partition] = field(default_factory=set)
    held: set[Partition] = field(default_factory=set)
    versions: dict[str, str] = field(default_factory=dict)
    last_days: dict[str, date] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.last_days = {name: self.last_days.get(name, LAST) for name in self.graph.tables}
        for name, table in self.graph.tables.items():
            self.made[name] = {}
            for day in days(self.graph.first_days[name], self.last_days[name]):
                inputs = {
                    upstream: {
                        each: made.digest or ""
                        for each in window.upstream_of(day)
                        if (made := self.made[upstream].get(each)) and each >= self.graph.first_days[name]
                    }
                    for upstream, window in table.reads.items()
                }
                self.made[name][day] = Record(1, "digest", inputs=inputs, code_version="code")
            if name not in self.graph.sources:
                self.heads[name] = dict.fromkeys(self.made[name], "head")
                self.versions[name] = "code"

    def changes(self, table: str, *changed: date) -> None:
        """Other rows are there now, and recorded."""
        for day in changed:
            made = self.made[table].get(day, Record(1, None))
            self.made[table][day] = replace(made, event_id=2, digest="other")
            if table in self.heads:
                self.heads[table][day] = "another head"

    def loses(self, table: str, *lost: date) -> None:
        """Neither head nor record."""
        for day in lost:
            self.made[table].pop(day, None)
            self.heads.get(table, {}).pop(day, None)

    def forgets(self, table: str, *forgotten: date) -> None:
        """The record, not the head: the instance was wiped."""
        for day in forgotten:
            del self.made[table][day]

    def facts(self) -> Facts:
        return Facts(self.heads, self.made, self.failed, self.unrecorded, self.versions, self.last_days, self.held)

    def plan(self, mode: Mode, *tables: str, on: tuple[tuple[date, date], ...] = (), force: bool = False) -> Plan:
        return plan(self.graph, Ask(mode, tables or STEPS, on, "why", force), self.facts())


def told(planned: Plan) -> dict[str, list[tuple[date, date, str]]]:
    """Stretches of days with the same action and reason."""
    found: dict[str, list[tuple[date, date, str]]] = {}
    for lead, entries in planned.entries.items():
        listed = found.setdefault(lead, [])
        for day, entry in entries.items():
            words = f"{entry.action.value} {entry.reason.value}" if entry.reason else entry.action.value
            if listed and listed[-1][1] == day - timedelta(days=1) and listed[-1][2] == words:
                listed[-1] = (listed[-1][0], day, words)
            else:
                listed.append((day, day, words))
    return found


def test_a_lake_that_is_current_needs_nothing_and_says_so() -> None:
    shop = Shop()

    assert told(shop.plan(Mode.FULL)) == {name: [(FIRST, LAST, "skip")] for name in STEPS}
    assert told(shop.plan(Mode.SELECTIVE, "events", on=((feb(14), feb(16)),))) == {
        "events": [(feb(14), feb(16), "skip")]
    }
    assert told(shop.plan(Mode.INCREMENTAL)) == {name: [(LAST, LAST, "skip")] for name in STEPS}
    for mode in (Mode.STALE, Mode.MISSING, Mode.FAILED):
        assert told(shop.plan(mode)) == {}


def test_events_of_three_days_reach_the_features_to_the_end_of_their_window_and_no_further() -> None:
    planned = Shop().plan(Mode.SELECTIVE, "events", on=((feb(14), feb(16)),), force=True)

    assert told(planned) == {
        "events": [(feb(14), feb(16), "compute REQUESTED")],
        "sales": [(feb(14), feb(16), "compute DOWNSTREAM_OF")],
        "features": [(feb(14), mar(14), "compute DOWNSTREAM_OF")],
        "segments": [(feb(14), mar(14), "compute DOWNSTREAM_OF")],
    }
    features = planned.entries["features"]
    assert features[feb(14)].because == Partition("events", feb(14))
    assert features[mar(12)].because == Partition("events", feb(14))
    assert features[mar(14)].because == Partition("events", feb(16))


def test_late_files_reach_back_by_the_lateness_and_forward_by_the_windows() -> None:
    planned = Shop().plan(Mode.SELECTIVE, "raw", on=((feb(20), feb(20)),), force=True)

    assert planned.days("events") == days(feb(17), feb(21))
    assert planned.days("features") == days(feb(17), mar(19))


def test_windows_end_at_the_first_and_at_the_last_day_of_history() -> None:
    shop = Shop()

    first = shop.plan(Mode.SELECTIVE, "raw", on=((FIRST, FIRST),), force=True)
    last = shop.plan(Mode.SELECTIVE, "raw", on=((LAST, LAST),), force=True)

    assert first.days("events") == days(FIRST, feb(2))
    assert first.days("features") == days(FIRST, feb(29))
    assert last.days("events") == last.days("features") == days(mar(28), LAST)


def test_a_day_that_is_over_in_one_time_zone_only_is_in_the_plan_of_that_zone_only() -> None:
    shop = Shop(last_days={"raw": LAST, "features": LAST - timedelta(days=1)})

    planned = shop.plan(Mode.SELECTIVE, "raw", on=((mar(30), LAST),), force=True)

    assert planned.days("sales")[-1] == LAST
    assert planned.days("features")[-1] == mar(30)


def test_a_table_whose_history_begins_later_is_not_affected_by_days_before_it() -> None:
    """A daily asset reads nothing from before its own history."""
    shop = Shop(replace(SHOP, first_days={**SHOP.first_days, "features": feb(20), "segments": feb(20)}))

    planned = shop.plan(Mode.SELECTIVE, "events", on=((feb(14), feb(20)),), force=True)

    assert planned.days("features") == days(feb(20), mar(18))
    assert {each.because for each in planned.entries["features"].values()} == {Partition("events", feb(20))}
    shop.loses("features", feb(20))
    assert shop.plan(Mode.SELECTIVE, "events", on=((feb(14), feb(19)),), force=True).days("features") == []


def test_what_lies_before_its_history_neither_holds_a_table_nor_is_among_the_heads_that_it_reads() -> None:
    shop = Shop(replace(SHOP, first_days={**SHOP.first_days, "features": feb(20), "segments": feb(20)}))
    shop.held.add(Partition("events", feb(14)))

    planned = shop.plan(Mode.FULL, "features", force=True)

    assert planned.days("features") == days(feb(20), LAST)
    assert list(planned.heads["events"]) == days(feb(20), LAST)


@pytest.mark.parametrize("inputs", [{}, {"events": {feb(14): "digest"}}])
def test_an_asset_that_may_have_read_days_before_its_history_is_affected_by_them(
    inputs: dict[str, dict[date, str]],
) -> None:
    shop = Shop(replace(SHOP, first_days={**SHOP.first_days, "features": feb(20), "segments": feb(20)}))
    shop.made["features"][feb(21)] = replace(shop.made["features"][feb(21)], inputs=inputs)

    planned = shop.plan(Mode.SELECTIVE, "events", on=((feb(14), feb(14)),), force=True)

    assert planned.days("features") == [feb(21)]


def test_what_was_read_and_is_another_now_is_told_from_what_came_later() -> None:
    shop = Shop()
    shop.changes("landing", feb(10))
    shop.loses("landing", feb(15))
    for table in ("raw", "rejected", "events"):
        shop.loses(table, feb(15))
    for day in days(feb(15), mar(13)):
        del shop.made["features"][day].inputs["events"][feb(15)]  # type: ignore[attr-defined]
    shop.made["landing"][feb(15)] = shop.made["events"][feb(15)] = Record(3, "came later")
    shop.heads["events"][feb(15)] = "head"

    planned = shop.plan(Mode.STALE, "raw", "features")

    assert told(planned)["raw"] == [(feb(10), feb(10), "compute INPUT_CHANGED")]
    assert planned.entries["raw"][feb(10)].because == Partition("landing", feb(10))
    assert told(planned)["features"] == [
        (feb(7), feb(14), "compute DOWNSTREAM_OF"),
        (feb(15), mar(13), "compute LATE_DATA"),
    ]
    assert planned.entries["features"][mar(13)].because == Partition("events", feb(15))


def test_a_change_is_told_before_data_that_came_late() -> None:
    shop = Shop()
    shop.changes("events", feb(20))
    shop.made["features"][feb(20)] = replace(shop.made["features"][feb(20)], inputs={"events": {feb(20): "digest"}})

    assert told(shop.plan(Mode.STALE, "features"))["features"][0] == (feb(20), mar(18), "compute INPUT_CHANGED")
    assert shop.plan(Mode.STALE, "features").entries["features"][feb(20)].because == Partition("events", feb(20))


def test_an_input_whose_head_is_gone_is_not_late_data() -> None:
    """Its record is still there; computed again without it, the partition would be in every plan from then on."""
    shop = Shop()
    del shop.heads["events"][feb(15)]
    for day in days(feb(15), mar(13)):
        del shop.made["features"][day].inputs["events"][feb(15)]  # type: ignore[attr-defined]

    assert told(shop.plan(Mode.STALE, "features")) == {}


def test_an_incremental_plan_takes_gaps_and_what_is_new_and_shows_the_watermark() -> None:
    shop = Shop()
    for table in TABLES[1:]:
        shop.loses(table.name, *days(mar(28), LAST))
    shop.loses("events", feb(10), feb(11))

    planned = shop.plan(Mode.INCREMENTAL, "events", "features")

    assert planned.progressed == {
        "events": TableProgress(mar(27), ((feb(10), feb(11)),)),
        "features": TableProgress(mar(27), ()),
    }
    assert told(planned)["events"] == [
        (feb(10), feb(11), "compute MISSING"),
        (mar(27), mar(27), "skip"),
        (mar(28), LAST, "wait MISSING"),
    ]
    assert told(planned)["features"] == [
        (feb(10), mar(9), "compute DOWNSTREAM_OF"),
        (mar(27), mar(27), "skip"),
        (mar(28), LAST, "wait MISSING"),
    ]


def test_an_incremental_plan_of_an_empty_lake_is_all_that_can_be_made() -> None:
    shop = Shop()
    for table in TABLES[1:]:
        shop.loses(table.name, *days(FIRST, LAST))
    shop.loses("landing", feb(3))

    planned = shop.plan(Mode.INCREMENTAL)

    assert planned.progressed == dict.fromkeys(STEPS, TableProgress(None, ()))
    for name in STEPS:
        assert told(planned)[name] == [
            (FIRST, feb(2), "compute MISSING"),
            (feb(3), feb(3), "wait MISSING"),
            (feb(4), LAST, "compute MISSING"),
        ]


def test_the_watermark_is_that_of_days_that_are_over_and_of_all_tables_of_a_step() -> None:
    shop = Shop(last_days={"raw": mar(30), "rejected": mar(30)})
    shop.heads["raw"][LAST] = shop.heads["rejected"][LAST] = "head"
    del shop.heads["rejected"][mar(30)]

    assert shop.plan(Mode.INCREMENTAL, "raw").progressed == {"raw": TableProgress(mar(29), ())}


def test_new_code_outdates_all_history_but_an_incremental_plan_computes_the_watermark_only() -> None:
    shop = Shop()
    shop.versions["features"] = "new code"

    assert told(shop.plan(Mode.STALE)) == {
        "features": [(FIRST, LAST, "compute CODE_CHANGED")],
        "segments": [(FIRST, LAST, "compute DOWNSTREAM_OF")],
    }
    assert told(shop.plan(Mode.FULL))["features"] == [(FIRST, LAST, "compute CODE_CHANGED")]
    assert told(shop.plan(Mode.INCREMENTAL))["features"] == [(LAST, LAST, "compute CODE_CHANGED")]


def test_code_whose_version_is_not_known_did_not_change() -> None:
    shop = Shop()
    shop.versions["features"] = "new code"
    for day, made in shop.made["features"].items():
        shop.made["features"][day] = replace(made, code_version=None)
    del shop.versions["sales"]

    assert told(shop.plan(Mode.STALE)) == {}


def test_a_missing_partition_downstream_is_made_if_the_inputs_of_its_own_day_are_there_or_made() -> None:
    shop = Shop()
    shop.loses("features", *days(feb(15), feb(20)))
    shop.loses("events", feb(15), feb(18))
    for table in ("raw", "rejected", "landing"):
        shop.loses(table, feb(18))

    planned = shop.plan(Mode.SELECTIVE, "events", on=((feb(14), feb(15)),), force=True)

    assert told(planned)["events"] == [(feb(14), feb(14), "compute REQUESTED"), (feb(15), feb(15), "compute MISSING")]
    assert planned.days("features") == [day for day in days(feb(14), mar(13)) if day != feb(18)]
    assert feb(18) not in planned.entries["features"]


def test_what_is_asked_for_waits_for_a_source_that_is_not_there() -> None:
    shop = Shop()
    for table in ("landing", "raw", "rejected"):
        shop.loses(table, feb(15))
    shop.loses("events", feb(15))

    planned = shop.plan(Mode.MISSING)

    assert planned.entries == {
        "raw": {feb(15): Entry(Action.WAIT, Reason.MISSING, Partition("landing", feb(15)))},
        "events": {feb(15): Entry(Action.WAIT, Reason.MISSING, Partition("raw", feb(15)))},
    }
    assert [partition for partition, _ in chain(planned, Partition("events", feb(15)))] == [
        Partition("events", feb(15)),
        Partition("raw", feb(15)),
    ]
    assert planned.heads == {}
    assert planned.estimates == {}


def test_a_published_partition_whose_own_input_is_gone_waits_too() -> None:
    shop = Shop()
    shop.versions["sales"] = "new code"
    shop.loses("events", feb(15))

    planned = shop.plan(Mode.STALE, "sales")

    assert planned.entries["sales"][feb(15)] == Entry(Action.WAIT, Reason.CODE_CHANGED, Partition("events", feb(15)))


def test_what_is_held_holds_all_that_reads_it() -> None:
    shop = Shop()
    shop.held.add(Partition("events", feb(15)))

    planned = shop.plan(Mode.SELECTIVE, "events", on=((feb(14), feb(15)),), force=True)

    held = Partition("events", feb(15))
    assert planned.entries["events"][feb(15)] == Entry(Action.WAIT, Reason.REQUESTED, held)
    assert planned.days("features") == [feb(14)]
    assert planned.days("features", Action.WAIT) == days(feb(15), mar(12))
    assert planned.days("segments") == [feb(14)]
    assert planned.days("segments", Action.WAIT) == []
    assert {planned.entries["features"][day].because for day in days(feb(15), mar(12))} == {held}


def test_what_waits_for_a_held_partition_holds_what_reads_it() -> None:
    shop = Shop()
    shop.held.add(Partition("events", feb(15)))

    planned = shop.plan(Mode.SELECTIVE, "features", "segments", on=((feb(14), feb(16)),), force=True)

    assert told(planned)["segments"] == [(feb(14), feb(14), "compute REQUESTED"), (feb(15), feb(16), "wait REQUESTED")]
    assert planned.entries["segments"][feb(16)].because == Partition("events", feb(15))


def test_the_chain_of_a_partition_that_is_held_itself_ends() -> None:
    shop = Shop()
    shop.held.add(Partition("features", feb(15)))
    planned = shop.plan(Mode.SELECTIVE, "events", on=((feb(15), feb(15)),), force=True)

    held = Entry(Action.WAIT, Reason.DOWNSTREAM_OF, Partition("features", feb(15)))
    assert chain(planned, Partition("features", feb(15))) == [(Partition("features", feb(15)), held)]


def test_a_chain_leads_to_the_first_cause() -> None:
    shop = Shop()
    shop.changes("landing", feb(20))

    planned = shop.plan(Mode.STALE)

    assert chain(planned, Partition("segments", mar(15))) == [
        (Partition("segments", mar(15)), Entry(Action.COMPUTE, Reason.DOWNSTREAM_OF, Partition("features", mar(15)))),
        (Partition("features", mar(15)), Entry(Action.COMPUTE, Reason.DOWNSTREAM_OF, Partition("events", feb(17)))),
        (Partition("events", feb(17)), Entry(Action.COMPUTE, Reason.DOWNSTREAM_OF, Partition("raw", feb(20)))),
        (Partition("raw", feb(20)), Entry(Action.COMPUTE, Reason.INPUT_CHANGED, Partition("landing", feb(20)))),
    ]
    assert chain(planned, Partition("segments", mar(20))) == []


def test_a_chain_ends_with_a_change_though_what_changed_is_in_the_plan_as_well() -> None:
    shop = Shop()
    shop.changes("events", feb(15))

    planned = shop.plan(Mode.FULL)

    assert planned.entries["events"][feb(15)].action is Action.SKIP
    assert [partition for partition, _ in chain(planned, Partition("sales", feb(15)))] == [Partition("sales", feb(15))]


@pytest.mark.parametrize("mode", [Mode.STALE, Mode.MISSING, Mode.FAILED])
def test_a_head_without_a_record_is_left_alone_by_those_who_look_for_something_else(mode: Mode) -> None:
    shop = Shop()
    shop.forgets("features", *days(FIRST, mar(30)))

    assert told(shop.plan(mode)) == {}
    assert told(shop.plan(Mode.INCREMENTAL))["features"] == [(LAST, LAST, "skip")]


@pytest.mark.parametrize("mode", [Mode.FULL, Mode.SELECTIVE])
def test_a_head_that_nothing_is_known_of_is_computed_when_it_is_asked_for(mode: Mode) -> None:
    shop = Shop()
    shop.forgets("rejected", feb(14))
    shop.forgets("features", feb(15))
    shop.unrecorded.add(Partition("rejected", feb(16)))

    planned = shop.plan(mode, "raw", "features", on=((feb(13), feb(17)),))

    assert told(planned)["raw"] == [
        (feb(13), feb(13), "skip"),
        (feb(14), feb(14), "compute REQUESTED"),
        (feb(15), feb(15), "skip"),
        (feb(16), feb(16), "compute UNRECORDED"),
        (feb(17), feb(17), "skip"),
    ]
    assert planned.entries["features"][feb(15)] == Entry(Action.COMPUTE, Reason.REQUESTED)


def test_what_wrong_code_made_is_computed_with_all_that_reads_it() -> None:
    shop = Shop()
    wrong = [feb(14), feb(15)]
    for each in wrong:
        shop.made["events"][each] = replace(shop.made["events"][each], code_version="bug")
    ask = Ask(Mode.MADE, STEPS, (), "a bug", force=True, made=Made("bug"))

    planned = plan(shop.graph, ask, shop.facts())

    assert [each for each in planned.days("events") if planned.entries["events"][each].reason is Reason.MADE] == wrong
    assert planned.entries["features"][feb(20)].reason is Reason.DOWNSTREAM_OF
    assert planned.days("raw") == []


def test_force_computes_what_is_asked_for_by_name_and_nothing_that_a_mode_does_not_look_for() -> None:
    shop = Shop()

    assert told(shop.plan(Mode.FULL, "sales", force=True)) == {"sales": [(FIRST, LAST, "compute REQUESTED")]}
    assert told(shop.plan(Mode.INCREMENTAL, "sales", force=True)) == {"sales": [(LAST, LAST, "compute REQUESTED")]}
    for mode in (Mode.STALE, Mode.MISSING, Mode.FAILED):
        assert told(shop.plan(mode, force=True)) == {}


def test_of_several_reasons_the_first_that_the_mode_heeds_is_told() -> None:
    shop = Shop()
    shop.failed |= {Partition("sales", feb(10)), Partition("sales", feb(11)), Partition("sales", feb(12))}
    shop.loses("sales", feb(10), feb(13))
    shop.changes("events", feb(11), feb(14))
    for day in (feb(11), feb(14)):
        shop.made["sales"][day] = replace(shop.made["sales"][day], code_version="old code")
    asked = ((feb(10), feb(14)),)

    def reasons(mode: Mode) -> dict[int, str]:
        entries = shop.plan(mode, "sales", on=asked).entries.get("sales", {})
        return {day.day: entry.reason.value for day, entry in entries.items() if entry.reason}

    everything = {10: "FAILED", 11: "FAILED", 12: "FAILED", 13: "MISSING", 14: "CODE_CHANGED"}
    assert reasons(Mode.FULL) == reasons(Mode.SELECTIVE) == everything
    assert reasons(Mode.FAILED) == {10: "FAILED", 11: "FAILED", 12: "FAILED"}
    assert reasons(Mode.MISSING) == {10: "MISSING", 13: "MISSING"}
    assert reasons(Mode.STALE) == {11: "CODE_CHANGED", 14: "CODE_CHANGED"}
    assert reasons(Mode.INCREMENTAL) == {**everything, 14: "INPUT_CHANGED"}


def test_a_table_of_a_step_that_has_no_head_makes_the_step_missing() -> None:
    shop = Shop()
    del shop.heads["rejected"][feb(15)]

    planned = shop.plan(Mode.MISSING)

    assert planned.entries["raw"] == {feb(15): Entry(Action.COMPUTE, Reason.MISSING)}
    assert planned.heads["rejected"] == {feb(15): None}
    assert planned.heads["raw"][feb(15)] == "head"


def test_days_that_are_asked_for_need_not_be_contiguous_and_end_with_the_history() -> None:
    before, after = FIRST - timedelta(days=5), LAST + timedelta(days=5)

    planned = Shop().plan(Mode.SELECTIVE, "sales", on=((before, FIRST), (feb(14), feb(15)), (LAST, after)), force=True)

    assert planned.days("sales") == [FIRST, feb(14), feb(15), LAST]


def test_a_plan_keeps_the_heads_of_what_it_writes_and_reads() -> None:
    shop = Shop()
    shop.loses("events", feb(1))
    shop.made["landing"][feb(20)] = Record(77, None)

    planned = shop.plan(Mode.SELECTIVE, "raw", "features", on=((feb(20), feb(20)),), force=True)

    assert planned.heads["features"][feb(20)] == "head"
    assert planned.heads["events"][feb(1)] is None
    assert planned.heads["landing"] == {feb(20): "77"}
    assert set(planned.heads) == {table.name for table in TABLES}
    assert planned.code_versions == dict.fromkeys(STEPS, "code")


def test_chunks_are_as_long_as_a_run_and_a_table_allow() -> None:
    graph = replace(SHOP, days_per_run={"features": 2, "sales": 50})
    asked = ((feb(1), feb(5)), (feb(10), feb(10)))
    planned = Shop(graph).plan(Mode.SELECTIVE, "sales", "features", on=asked, force=True)

    found = [(each.lead, each.first.day, each.last.day) for each in chunks(graph, planned, days_per_run=3)]

    spans = {lead: [(first, last) for each, first, last in found if each == lead] for lead in planned.order}
    assert spans == {
        "sales": [(1, 3), (4, 5), (10, 10)],
        "features": [(1, 2), (3, 4), (5, 5), (10, 10)],
        "segments": [(1, 3), (4, 5), (10, 10)],
    }
    assert [lead for lead, _, _ in found if lead != "sales"] == ["features"] * 4 + ["segments"] * 3


def test_an_estimate_is_so_many_times_the_mean_of_history_with_its_spread() -> None:
    shop = Shop()
    for number, day in enumerate(days(feb(1), feb(11))):
        shop.made["sales"][day] = replace(shop.made["sales"][day], rows=number * 10, seconds=1.5)
        shop.made["raw"][day] = replace(shop.made["raw"][day], rows=100, seconds=2.0, size_bytes=8)
        shop.made["rejected"][day] = replace(shop.made["rejected"][day], rows=1, seconds=2.0, size_bytes=2)

    planned = shop.plan(Mode.SELECTIVE, "raw", "sales", on=((feb(14), feb(15)),), force=True)

    assert planned.estimates["raw"] == Estimate(2, Spread(202, 202, 202), Spread(20, 20, 20), Spread(4, 4, 4)), (
        "tables of a step are made in the same seconds"
    )
    sales = planned.estimates["sales"]
    assert sales.partitions == len(planned.days("sales")) == 6
    assert sales == Estimate(6, Spread(6 * 50, 6 * 10, 6 * 90), None, Spread(9, 9, 9))
    assert planned.estimates["segments"] == Estimate(len(planned.days("segments")), None, None, None)
    assert total([planned.estimates["raw"], sales]) == Estimate(
        8, Spread(502, 262, 742), Spread(20, 20, 20), Spread(13, 13, 13)
    )


def test_a_few_huge_days_do_not_put_the_expected_out_of_the_spread() -> None:
    shop = Shop()
    for number, day in enumerate(days(feb(1), feb(20))):
        shop.made["sales"][day] = replace(shop.made["sales"][day], rows=10_000 if number == 7 else 1)

    rows = shop.plan(Mode.SELECTIVE, "sales", on=((feb(1), feb(1)),), force=True).estimates["sales"].rows

    assert rows is not None
    assert rows.low <= rows.expected <= rows.high
    assert rows.low == 1


def test_estimates_are_drawn_from_the_newest_records() -> None:
    graph = replace(SHOP, first_days=dict.fromkeys(SHOP.tables, LAST - timedelta(days=109)))
    shop = Shop(graph)
    for number, day in enumerate(days(LAST - timedelta(days=109), LAST)):
        shop.made["sales"][day] = replace(shop.made["sales"][day], rows=1_000_000 if number < 10 else 5)

    estimate = shop.plan(Mode.SELECTIVE, "sales", on=((LAST, LAST),), force=True).estimates["sales"]

    assert estimate.rows == Spread(5, 5, 5)


def test_a_plan_made_again_of_the_same_is_no_different() -> None:
    shop = Shop()
    shop.changes("landing", feb(20))

    assert differences(shop.plan(Mode.STALE), shop.plan(Mode.STALE)) == []


def test_what_moved_since_planning_is_told_in_folded_words() -> None:
    shop = Shop()
    before = shop.plan(Mode.SELECTIVE, "events", "sales", on=((feb(14), feb(16)),), force=True)
    shop.versions["events"] = "new code"
    shop.heads["features"] |= {feb(18): "new", feb(19): "new"}
    shop.held |= {Partition("sales", feb(15)), Partition("sales", feb(16))}

    now = shop.plan(Mode.SELECTIVE, "events", "sales", on=((feb(14), feb(16)),), force=True)

    assert differences(before, now) == [
        "the code of events is new code now, it was code",
        "the head of features 2028-02-18 to 2028-02-19 is another one now",
        "events 2028-02-14 to 2028-02-16: compute (REQUESTED) in the plan, compute (CODE_CHANGED) now",
        "sales 2028-02-15 to 2028-02-16: compute (REQUESTED) in the plan, wait (REQUESTED) now",
    ]


def test_a_file_that_came_since_planning_is_a_difference_and_so_is_code_downstream() -> None:
    shop = Shop()
    shop.changes("landing", feb(14), feb(15))
    before = shop.plan(Mode.STALE, "raw")
    shop.made["landing"][feb(15)] = Record(3, "yet another")
    shop.versions["sales"] = "new code"

    now = shop.plan(Mode.STALE, "raw")

    assert before.entries == now.entries
    assert differences(before, now) == [
        "the code of sales is new code now, it was code",
        "the head of landing 2028-02-15 is another one now",
    ]


def test_what_is_no_longer_in_the_plan_or_new_in_it_is_a_difference() -> None:
    shop, later = Shop(), Shop()
    shop.loses("sales", feb(14))
    later.loses("sales", feb(15))

    assert differences(shop.plan(Mode.MISSING), later.plan(Mode.MISSING)) == [
        "sales 2028-02-14: compute (MISSING) in the plan, left alone now",
        "sales 2028-02-15: left alone in the plan, compute (MISSING) now",
    ]
    assert differences(shop.plan(Mode.MISSING), Shop().plan(Mode.MISSING)) == [
        "sales 2028-02-14: compute (MISSING) in the plan, left alone now"
    ]
    assert differences(Shop().plan(Mode.MISSING), shop.plan(Mode.MISSING)) == [
        "sales 2028-02-14: left alone in the plan, compute (MISSING) now"
    ]


def test_a_part_of_a_plan_is_what_was_chosen_of_what_it_computes() -> None:
    shop = Shop()
    for day in days(FIRST, LAST):
        shop.made["sales"][day] = replace(shop.made["sales"][day], rows=10)
    shop.held.add(Partition("sales", feb(15)))
    planned = shop.plan(Mode.SELECTIVE, "events", "sales", on=((feb(14), feb(16)),), force=True)

    part = only(planned, {Partition("sales", feb(14)), Partition("sales", feb(15)), Partition("sales", mar(1))})

    assert part.order == ("sales",)
    assert part.entries == {"sales": {feb(14): planned.entries["sales"][feb(14)]}}
    assert part.estimates == {"sales": Estimate(1, Spread(10, 10, 10), None, None)}
    assert only(planned, []).order == ()


def test_spans_in_any_order_become_stretches_apart_from_each_other() -> None:
    assert stretches_of([(feb(9), feb(9)), (feb(1), feb(3)), (feb(3), feb(5)), (feb(6), feb(7))]) == [
        (feb(1), feb(7)),
        (feb(9), feb(9)),
    ]
    assert stretches_of([]) == []
