"""Landing data of a seeded web shop, with everything in it that breaks daily pipelines.

Here belongs what the shop sends and how it goes wrong on the way. Nothing here reads, checks or repairs
events, and no other module knows that a landing zone was made up.

A landing zone is `{landing}/dt=YYYY-MM-DD/<files>`. The folder is the day the files *arrived*; events carry
their own time. An ordinary day brings about 3,000 events in three files: `demo-web.jsonl.gz` (page views
and carts), `demo-shop.csv` (purchases and refunds) and `demo-app.parquet` (a fifth of everything).

The calendar of surprises, where `o` is `date.toordinal()`; any 60 days in a row hold all of them:

| surprise | days |
|---|---|
| one to three lines stand twice in a file | every file |
| 2 % of a day's events arrive 1 to 3 days late, 0.1 % arrive 4 to 6 days late | every day |
| a malformed line in the web file and one in the shop file, of another kind each day | all but `o % 4 == 1` |
| an event of the unknown type `teleport` | web file `o % 3 == 0`, app file `o % 3 == 1` |
| `demo-shop.csv` comes as `demo-shop.csv.zst` | `o % 5 == 2` |
| one of yesterday's files lands again, as `demo-redelivered-<name>` | `o % 7 == 3`, Wednesdays |
| nothing lands, not even a folder; the next day brings it all | `o % 28 == 14`, a Sunday |
| ten times the events happen | `o % 28 == 26`, a Friday |
| a column `channel` in all files, in second place | `o % 56 >= 28` |

Everything is a pure function of seed and date. The calendar depends on the date alone: another seed gives
other events in files of the same names. Bytes are exact for given versions of Python, numpy and pyarrow.
"""

import gzip
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline_assets.errors import SettingsError
from pipeline_assets.store.files import replace_file

EVENT_TYPES = ("page_view", "add_to_cart", "purchase", "refund")

_EVENTS_PER_DAY = 3_000
_WEEKDAY_FACTORS = (1.02, 0.98, 0.96, 0.98, 1.04, 1.10, 0.92)
_TYPE_SHARES = (0.78, 0.13, 0.08, 0.01)
_GUEST_SHARES = (0.15, 0.0, 0.03, 0.0)
_CHANNELS = ("search", "direct", "email", "ads")
_WEB, _SHOP, _APP = range(3)
_USERS = 2_000
_EMPTY_DAY = 14  # of 28
# Six days, and a seventh when the sixth is the empty day.
_LONGEST_DELAY_DAYS = 7
_DAY_MICROSECONDS = 86_400_000_000
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()

_EVENT_SCHEMA = pa.schema(
    {
        "event_id": pa.string(),
        "user_id": pa.string(),
        "event_type": pa.string(),
        "amount": pa.decimal128(18, 2),
        "event_time": pa.timestamp("us", tz="UTC"),
    }
)
_EXTRA_FIELDS = (
    ("arrival_day", pa.date32()),
    ("days_late", pa.int32()),
    ("channel", pa.string()),
    ("source", pa.int8()),
)

# `amount` is written as it stands, being a number in JSON, so a text in its place brings its quotes.
_WRONG_VALUES = ({"amount": '"12,50"'}, {"amount": '"n/a"'}, {"event_time": "yesterday"}, {"event_id": None})
_CSV_FAULTS: tuple[Callable[[str], str], ...] = (
    lambda line: line.rpartition(",")[0],
    lambda line: f"{line},surprise",
    lambda line: line.replace(",", ',"', 1),
)
_JSON_FAULTS: tuple[Callable[[str], str], ...] = (lambda line: line[: len(line) // 2],)


class DemoRefused(SettingsError):
    """The landing zone holds files that the demo did not make."""


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """What the landing zone holds of the days that `write_days` was asked for; `events` are distinct valid ones."""

    days: int = 0
    files: int = 0
    bytes: int = 0
    events: int = 0


def write_days(
    landing: Path, days: Iterable[date], *, seed: int, progress: Callable[[date, int], None] | None = None
) -> DemoSummary:
    """Land the files of `days` in `landing`; it is fastest when they ascend.

    Readers never see half a file. A file that already has its bytes is left alone: a second call changes
    nothing. `progress` is called after each day with the number of files that land on it, 0 on an empty day.

    Raises `DemoRefused`, before anything is written, if an arrival folder holds a file of somebody else.
    """
    _refuse_foreign_files(landing)
    totals: Counter[str] = Counter()
    for day in days:
        files = landing_files(day, seed=seed)
        for name, data in files.items():
            _put(landing / f"dt={day.isoformat()}" / name, data)
        totals.update(_tally(day, files, seed))
        if progress is not None:
            progress(day, len(files))
    return DemoSummary(**totals)


def landing_files(day: date, *, seed: int) -> dict[str, bytes]:
    """Return the exact bytes by file name of what arrives on `day`; `seed` is an integer from 0 up."""
    if day.toordinal() % 28 == _EMPTY_DAY:
        return {}
    files = dict(_own_files(day, seed))
    week, weekday = divmod(day.toordinal(), 7)
    if weekday == 3:
        yesterday = _own_files(day - timedelta(days=1), seed)
        name = sorted(yesterday)[week % len(yesterday)]
        files[f"demo-redelivered-{name}"] = yesterday[name]
    return files


# --- What happens in the shop


@lru_cache(maxsize=_LONGEST_DELAY_DAYS + 2)  # the event days behind a day's files and a redelivered one
def good_events(day: date, *, seed: int) -> pa.Table:
    """Return the distinct valid events of one UTC event day in order of time: the truth to compare with.

    Columns: the five of the event contract (`amount` is decimal128(18, 2)), `arrival_day` (date32, the first day that
    the event lands), `days_late` (int32, how many days after `day` that is), `channel` (string) and `source` (int8, its
    file). Beyond a horizon of n days are exactly the rows with `days_late` > n: a redelivered event has landed before.
    """
    rng = _rng(seed, day, 0)
    epoch_day = day.toordinal() - _EPOCH_ORDINAL
    rush = 10 if day.toordinal() % 28 == 26 else 1
    count = int(rng.poisson(_EVENTS_PER_DAY * _WEEKDAY_FACTORS[day.weekday()] * rush))
    kind = rng.choice(len(EVENT_TYPES), count, p=_TYPE_SHARES)
    is_sale = kind >= EVENT_TYPES.index("purchase")
    days_late = _days_late(rng, day, count)
    ids = rng.bytes(8 * count).hex()
    sign = np.where(kind == EVENT_TYPES.index("refund"), -1, 1)
    columns = {
        "event_id": pa.array([ids[at : at + 16] for at in range(0, len(ids), 16)]),
        "user_id": _user_ids(rng, day, seed, kind, is_sale),
        "event_type": pa.array(EVENT_TYPES).take(pa.array(kind)),
        "amount": pa.array(sign * _prices(rng, count), mask=kind == EVENT_TYPES.index("page_view")),
        "event_time": pa.array(epoch_day * _DAY_MICROSECONDS + _times_of_day(rng, count)),
        "arrival_day": pa.array((epoch_day + days_late).astype(np.int32)),
        "days_late": pa.array(days_late),
        "channel": pa.array(_CHANNELS).take(pa.array(rng.integers(len(_CHANNELS), size=count))),
        "source": pa.array(np.where(rng.random(count) < 0.2, _APP, np.where(is_sale, _SHOP, _WEB))),
    }
    return pa.table(columns).cast(pa.schema([*_EVENT_SCHEMA, *_EXTRA_FIELDS]))


def _rng(seed: int, day: date, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, day.toordinal(), purpose])


def _days_late(rng: np.random.Generator, day: date, count: int) -> NDArray[np.int64]:
    luck = rng.random(count)
    late: NDArray[np.int64] = np.where(luck < 0.02, rng.integers(1, 4, count), 0)
    late[luck > 0.999] = rng.integers(4, 7, count)[luck > 0.999]
    late[(day.toordinal() + late) % 28 == _EMPTY_DAY] += 1
    return late


def _times_of_day(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Draw ascending microseconds: busiest in the evening, and always some on both edges of the day."""
    times = (rng.triangular(0, 0.8, 1, count) * _DAY_MICROSECONDS).astype(np.int64)
    times[::3] -= times[::3] % 1_000_000
    times[:3], times[-3:] = 0, _DAY_MICROSECONDS - 1
    return np.sort(times)


def _prices(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    below_next_unit: NDArray[np.float64] = rng.choice((0.01, 0.05, 0.5, 0), count, p=(0.6, 0.1, 0.1, 0.2))
    prices: NDArray[np.float64] = np.ceil(rng.lognormal(3, 0.9, count)) - below_next_unit
    return prices


def _user_ids(
    rng: np.random.Generator, day: date, seed: int, kind: NDArray[np.int64], is_sale: NDArray[np.bool_]
) -> pa.Array:
    users, visits, buys = _active_users(day, seed)
    visitor, buyer = (rng.choice(users, len(kind), p=weight / weight.sum()) for weight in (visits, buys))
    number = pa.array(np.where(is_sale, buyer, visitor)).cast(pa.string())
    is_guest = pa.array(rng.random(len(kind)) < np.asarray(_GUEST_SHARES)[kind])
    return pc.if_else(is_guest, None, pc.binary_join_element_wise("u", pc.utf8_lpad(number, 5, "0"), ""))


def _active_users(day: date, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the numbers of the users of that day, and the weights by which they visit and buy.

    The population has a fixed number of places. In each, one user follows another: joins, is active for a
    while, and churns for good. Weights are log-normal, so that a few users buy much of everything.
    """
    rng = np.random.default_rng(seed)
    period_days = rng.integers(90, 720, _USERS)
    active_days = period_days * rng.uniform(0.2, 1, _USERS)
    visits = rng.lognormal(0, 1, _USERS)
    buys = visits * rng.lognormal(0, 1, _USERS)
    turn, age_days = np.divmod(day.toordinal() + rng.integers(720, size=_USERS), period_days)
    # Five digits: a number comes back after 50 turns of a place, which is 12 years at the earliest.
    numbers = (turn * _USERS + np.arange(_USERS)) % 100_000
    active = age_days < active_days
    return numbers[active], visits[active], buys[active]


# --- How it lands


@lru_cache(maxsize=2)  # today's, and yesterday's for a redelivery
def _own_files(day: date, seed: int) -> dict[str, bytes]:
    """Return the files of `landing_files` without the redelivered one."""
    rng = _rng(seed, day, 1)
    ordinal = day.toordinal()
    names = list(_EVENT_SCHEMA.names)
    if ordinal % 56 >= 28:
        names.insert(1, "channel")
    arrivals = _arrivals(day, seed)
    web, shop, app = (
        _with_duplicates(rng, arrivals.filter(pc.equal(arrivals["source"], source)).select(names))
        for source in (_WEB, _SHOP, _APP)
    )
    web_lines, shop_lines = _json_lines(_as_text(web)), _csv_lines(_as_text(shop))

    stray = partial(_stray, rng, day, names)
    if ordinal % 4 != 1:
        _insert(rng, web_lines, _malformed(stray, ordinal, _json_lines, _JSON_FAULTS))
        _insert(rng, shop_lines, _malformed(stray, ordinal, _csv_lines, _CSV_FAULTS))
        # How many lines an unclosed quote swallows depends on the reader: none, if it is in the last.
        shop_lines.sort(key=lambda line: line.count('"') % 2)
    if ordinal % 3 == 0:
        _insert(rng, web_lines, _json_lines(stray(event_type="teleport"))[0])
    if ordinal % 3 == 1:
        app = pa.concat_tables([app, stray(event_type="teleport").cast(app.schema)])

    csv = _text_file([",".join(names), *shop_lines])
    shop_file = {"demo-shop.csv": csv}
    if ordinal % 5 == 2:
        shop_file = {"demo-shop.csv.zst": pa.Codec("zstd", 3).compress(csv, asbytes=True)}
    return {
        "demo-web.jsonl.gz": gzip.compress(_text_file(web_lines), compresslevel=3, mtime=0),
        **shop_file,
        "demo-app.parquet": _parquet_file(app),
    }


def _arrivals(day: date, seed: int) -> pa.Table:
    """Return the rows of `good_events` that land on `day`, in order of time."""
    event_days = (good_events(day - timedelta(days=ago), seed=seed) for ago in range(_LONGEST_DELAY_DAYS, -1, -1))
    return pa.concat_tables(rows.filter(pc.equal(rows["arrival_day"], pa.scalar(day))) for rows in event_days)


def _with_duplicates(rng: np.random.Generator, rows: pa.Table) -> pa.Table:
    again = rng.integers(rows.num_rows, size=rng.integers(1, 4))
    return rows.take(np.sort(np.concatenate([np.arange(rows.num_rows), again])))


def _as_text(rows: pa.Table) -> pa.Table:
    """Return the same rows as strings; times are ISO 8601 with Z, and microseconds where there are any."""
    text = rows.cast(pa.schema([(name, pa.string()) for name in rows.column_names]))
    times = pc.replace_substring(pc.replace_substring(text["event_time"], " ", "T"), ".000000Z", "Z")
    return text.set_column(text.column_names.index("event_time"), "event_time", times)


def _csv_lines(text: pa.Table) -> list[str]:
    joined = pc.binary_join_element_wise(*text.columns, ",", null_handling="replace", null_replacement="")
    return list(joined.to_pylist())


def _json_lines(text: pa.Table) -> list[str]:
    members = []
    for name, column in zip(text.column_names, text.columns, strict=True):
        quote = "" if name == "amount" else '"'
        value = pc.binary_join_element_wise(quote, column, quote, "").fill_null("null")
        members.append(pc.binary_join_element_wise(f'"{name}": ', value, ""))
    return [f"{{{line}}}" for line in pc.binary_join_element_wise(*members, ", ").to_pylist()]


def _malformed(
    stray: Callable[..., pa.Table],
    ordinal: int,
    to_lines: Callable[[pa.Table], list[str]],
    faults: tuple[Callable[[str], str], ...],
) -> str:
    """Return a line that nobody can make an event of: a wrong value or a fault of the line, in turn."""
    turn = ordinal % (len(_WRONG_VALUES) + len(faults))
    if turn < len(_WRONG_VALUES):
        return to_lines(stray(**_WRONG_VALUES[turn]))[0]
    return faults[turn - len(_WRONG_VALUES)](to_lines(stray())[0])


def _stray(rng: np.random.Generator, day: date, names: list[str], **wrong: str | None) -> pa.Table:
    """Return one row of text, valid but for `wrong`, with an id of its own: it counts for nothing else."""
    event = {
        "event_id": rng.bytes(8).hex(),
        "channel": "direct",
        "user_id": "u01234",
        "event_type": "purchase",
        "amount": "19.99",
        "event_time": f"{day.isoformat()}T12:00:00Z",
        **wrong,
    }
    return pa.table({name: pa.array([event[name]], pa.string()) for name in names})


def _insert(rng: np.random.Generator, lines: list[str], line: str) -> None:
    lines.insert(int(rng.integers(len(lines) + 1)), line)


def _text_file(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _parquet_file(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(rows.combine_chunks(), sink, compression="zstd", compression_level=3)
    return bytes(sink.getvalue())


# --- Where it goes


def _refuse_foreign_files(landing: Path) -> None:
    folders = sorted(landing.iterdir()) if landing.exists() else []
    for path in (path for each in folders if each.name.startswith("dt=") and each.is_dir() for path in each.iterdir()):
        if not path.name.startswith((".", "_", "demo-")):
            message = (
                f"{path} was not made by the demo, and made-up events must not mix with real ones. "
                "Nothing was written. Point PIPELINE_LANDING at an empty folder and run the demo again."
            )
            raise DemoRefused(message)


def _put(path: Path, data: bytes) -> None:
    if path.exists() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, data, aside="unfinished")  # what a kill left behind is written again, not left to be told of


def _tally(day: date, files: dict[str, bytes], seed: int) -> dict[str, int]:
    return {"days": 1, "files": len(files), "bytes": sum(map(len, files.values())), "events": len(_arrivals(day, seed))}
