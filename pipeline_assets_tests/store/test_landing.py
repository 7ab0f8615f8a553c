"""The landing zone: which files there are, and that nothing is taken for complete which is not."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from pipeline_assets.errors import LandingError, LandingInProgress
from pipeline_assets.store.landing import LandingZone, Look

DAY = date(2026, 6, 10)
UNFINISHED = [
    "._a.csv",
    ".a.csv.Xy12Z",
    "_SUCCESS",
    "_a.csv",
    "a.csv.tmp",
    "a.csv.TMP",
    "a.csv.temp",
    "a.csv.part",
    "a.csv.partial",
    "a.csv.inprogress",
    "a.csv.filepart",
    "a.csv.crdownload",
    "a.csv~",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / f"dt={DAY}"
    folder.mkdir()
    return folder


def names(root: Path, day: date = DAY) -> list[str]:
    return [file.name for file in LandingZone(root).files(day)]


@contextmanager
def written_by_another_process(path: Path, mode: str) -> Iterator[subprocess.Popen[str]]:
    """The other process has the file open until it reads a line. It says so before the block begins."""
    program = f"file = open({str(path)!r}, {mode!r}); print('open', flush=True); input(); file.close(); print('closed')"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        try:
            yield process
        finally:
            process.communicate("\n")


def test_a_landing_zone_that_does_not_exist_has_no_days_and_no_files(tmp_path: Path) -> None:
    zone = LandingZone(tmp_path / "none")
    assert zone.days() == []
    assert zone.files(DAY) == []
    assert zone.unfinished(DAY) == []
    zone.check_complete(DAY, [])


def test_a_day_without_a_folder_has_no_files(tmp_path: Path) -> None:
    assert names(tmp_path) == []


def test_days_ascend_and_files_are_named_by_their_path_below_the_zone(tmp_path: Path) -> None:
    for name in ("dt=2026-06-10/b.csv", "dt=2026-06-10/a.csv", "dt=2025-12-31/x", "dt=2026-06-09/y"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    zone = LandingZone(tmp_path)
    assert zone.days() == [date(2025, 12, 31), date(2026, 6, 9), DAY]
    assert [(file.name, file.size_bytes) for file in zone.files(DAY)] == [
        ("dt=2026-06-10/a.csv", 19),
        ("dt=2026-06-10/b.csv", 19),
    ]


@pytest.mark.parametrize("name", UNFINISHED)
def test_a_file_with_the_name_of_an_unfinished_upload_is_not_listed_but_told_of(folder: Path, name: str) -> None:
    (folder / "a.csv").write_bytes(b"a\n1\n")
    (folder / name).write_bytes(b"a\n")
    assert names(folder.parent) == [f"dt={DAY}/a.csv"]
    assert LandingZone(folder.parent).unfinished(DAY) == [name]


def test_hidden_entries_of_the_zone_are_not_days(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_bytes(b"")
    (tmp_path / "_temporary").mkdir()
    assert LandingZone(tmp_path).days() == []
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    [
        "dt=2026-13-45",
        "dt=2026-02-29",
        "dt=2026-6-1",
        "dt=20260610",
        "20260610",
        "2026-06-10",
        "DT=2026-06-10",
        "dt=2026-W24-3",
        "dt=2026-06-10 ",
        "dt=2026-06-10T00",
        "date=2026-06-10",
        "dt=",
    ],
)
def test_a_folder_with_a_wrong_name_is_an_error_for_the_days_and_for_any_day(folder: Path, name: str) -> None:
    (folder.parent / name).mkdir()
    zone = LandingZone(folder.parent)
    with pytest.raises(LandingError, match="not a folder named dt=YYYY-MM-DD") as of_days:
        zone.days()
    with pytest.raises(LandingError) as of_a_day:
        zone.files(DAY)
    assert str(of_days.value) == str(of_a_day.value)
    assert str(of_days.value).startswith(f"{folder.parent / name}:")


def test_a_file_in_the_root_is_an_error_that_names_it(folder: Path) -> None:
    (folder.parent / "events.csv").write_bytes(b"a\n1\n")
    with pytest.raises(LandingError, match=r"events\.csv: not a folder named"):
        LandingZone(folder.parent).files(DAY)


def test_a_file_with_the_name_of_a_day_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / f"dt={DAY}").write_bytes(b"")
    with pytest.raises(LandingError, match=f"dt={DAY}: not a folder"):
        LandingZone(tmp_path).files(DAY)


def test_a_landing_zone_that_is_a_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "zone").write_bytes(b"")
    with pytest.raises(LandingError, match="zone: not a folder"):
        LandingZone(tmp_path / "zone").days()
    with pytest.raises(LandingError, match="not a folder"):
        LandingZone(tmp_path / "zone").files(DAY)


def test_a_wrong_folder_is_found_when_it_comes_while_the_zone_is_in_use(folder: Path) -> None:
    zone = LandingZone(folder.parent)
    assert zone.files(DAY) == []
    (folder.parent / "dt=2026-6-11").mkdir()
    os.utime(folder.parent, ns=(1, 1))  # another time than before, however coarse the clock of the file system is
    with pytest.raises(LandingError, match="2026-6-11"):
        zone.files(DAY)


def test_a_folder_inside_the_folder_of_a_day_is_an_error_that_names_it(folder: Path) -> None:
    (folder / "hour=07").mkdir()
    with pytest.raises(LandingError, match="hour=07: not a file"):
        names(folder.parent)


def test_a_pipe_in_the_folder_of_a_day_is_an_error_that_names_it(folder: Path) -> None:
    os.mkfifo(folder / "pipe.csv")
    with pytest.raises(LandingError, match=r"pipe\.csv: not a file"):
        names(folder.parent)


def test_links_to_files_and_folders_are_followed(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "_elsewhere"
    elsewhere.mkdir()
    (elsewhere / "data.csv").write_bytes(b"a\n1\n")
    (folder / "link.csv").symlink_to(elsewhere / "data.csv")
    (tmp_path / "dt=2026-06-11").symlink_to(elsewhere)
    zone = LandingZone(tmp_path)
    assert [(file.name, file.size_bytes) for file in zone.files(DAY)] == [(f"dt={DAY}/link.csv", 4)]
    assert zone.days() == [DAY, date(2026, 6, 11)]
    assert [file.name for file in zone.files(date(2026, 6, 11))] == ["dt=2026-06-11/data.csv"]


def test_a_link_to_nothing_is_an_error_that_names_it(folder: Path) -> None:
    (folder / "link.csv").symlink_to(folder / "gone.csv")
    with pytest.raises(LandingError, match=r"link\.csv: not a file"):
        names(folder.parent)


def test_files_that_nobody_touches_are_complete(folder: Path) -> None:
    (folder / "a.csv").write_bytes(b"a\n1\n")
    zone = LandingZone(folder.parent)
    files = zone.files(DAY)
    zone.check_complete(DAY, files)
    with (folder / "a.csv").open("rb"):  # another reader does no harm
        zone.check_complete(DAY, files)


@pytest.mark.parametrize("mode", ["a", "r+"])
def test_a_file_that_another_process_has_open_for_writing_is_in_progress(folder: Path, mode: str) -> None:
    for name in ("a.csv", "b.csv"):
        (folder / name).write_bytes(b"a\n1\n")
    zone = LandingZone(folder.parent)
    files = zone.files(DAY)
    with written_by_another_process(folder / "b.csv", mode):
        with pytest.raises(LandingInProgress, match=rf"^dt={DAY}/b\.csv: still being written") as caught:
            zone.check_complete(DAY, files)
        assert "a.csv" not in str(caught.value)
    zone.check_complete(DAY, files)  # it was closed, and nothing had been written


def test_a_file_that_is_written_through_a_link_is_in_progress(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "_elsewhere.csv").write_bytes(b"a\n1\n")
    (folder / "link.csv").symlink_to(tmp_path / "_elsewhere.csv")
    zone = LandingZone(tmp_path)
    with (
        written_by_another_process(tmp_path / "_elsewhere.csv", "a"),
        pytest.raises(LandingInProgress, match=r"link\.csv"),
    ):
        zone.check_complete(DAY, zone.files(DAY))


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"2\n")


def replace(path: Path) -> None:
    other = path.with_name(".other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


def rewrite(path: Path) -> None:
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(1, 1))


def correct(path: Path) -> None:
    """As `tar -x` does: another content of the same size and time."""
    before = path.stat()
    path.write_bytes(bytes(reversed(path.read_bytes())))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def become_a_link(path: Path) -> None:
    path.with_name("b.csv").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(path.with_name("b.csv"))


@pytest.mark.parametrize("change", [grow, replace, rewrite, correct, become_a_link, os.remove])
def test_a_file_that_changes_after_it_was_listed_is_in_progress(folder: Path, change: Callable[[Path], None]) -> None:
    (folder / "a.csv").write_bytes(b"a\n1\n")
    zone = LandingZone(folder.parent)
    files = zone.files(DAY)
    change(folder / "a.csv")
    with pytest.raises(LandingInProgress, match=r"a\.csv.*still being written, or changed while it was read"):
        zone.check_complete(DAY, files)
    zone.check_complete(DAY, zone.files(DAY))


def test_a_file_that_comes_after_the_others_were_listed_is_in_progress(folder: Path) -> None:
    (folder / "a.csv").write_bytes(b"a\n1\n")
    zone = LandingZone(folder.parent)
    files = zone.files(DAY)
    (folder / "z.csv").write_bytes(b"a\n1\n")
    with pytest.raises(LandingInProgress, match=rf"^dt={DAY}/z\.csv:"):
        zone.check_complete(DAY, files)


def test_an_upload_that_is_renamed_when_complete_is_never_in_progress(folder: Path) -> None:
    (folder / "a.csv.part").write_bytes(b"a\n1\n")
    zone = LandingZone(folder.parent)
    with written_by_another_process(folder / "a.csv.part", "a"):
        assert zone.files(DAY) == []
        zone.check_complete(DAY, [])
    (folder / "a.csv.part").rename(folder / "a.csv")
    assert [file.name for file in zone.files(DAY)] == [f"dt={DAY}/a.csv"]


def fingerprint(root: Path) -> str:
    zone = LandingZone(root)
    return zone.fingerprint(DAY, zone.files(DAY))


def test_a_redelivery_has_the_fingerprint_of_the_delivery(folder: Path) -> None:
    path = folder / "a.csv"
    path.write_bytes(b"a\n1\n")
    first, stamp = fingerprint(folder.parent), path.stat()
    (folder / ".upload").write_bytes(b"a\n1\n")
    (folder / ".upload").replace(path)
    os.utime(path, (1, 1))

    assert path.stat().st_ino != stamp.st_ino
    assert fingerprint(folder.parent) == first


def test_other_content_other_names_and_other_files_have_other_fingerprints(folder: Path) -> None:
    seen = {fingerprint(folder.parent)}
    for name, content in (("a", b"1"), ("a", b"2"), ("b", b""), ("b", b"2"), ("a", b""), ("c", b"12")):
        (folder / name).write_bytes(content)
        seen.add(fingerprint(folder.parent))
    (folder / "c").rename(folder / "d")
    seen.add(fingerprint(folder.parent))

    assert len(seen) == 8
    assert all(len(each) == 32 for each in seen)


def test_a_file_that_is_removed_while_it_is_fingerprinted_is_an_unfinished_delivery(folder: Path) -> None:
    (folder / "a.csv").write_bytes(b"a\n1\n")
    zone = LandingZone(folder.parent)
    files = zone.files(DAY)
    (folder / "a.csv").unlink()

    with pytest.raises(LandingInProgress, match="removed while it was read"):
        zone.fingerprint(DAY, files)


def test_a_look_at_nothing_sees_nothing_unless_a_marker_says_that_there_is_nothing(folder: Path) -> None:
    zone = LandingZone(folder.parent)
    assert zone.look(DAY) == zone.look(date(2020, 1, 1)) == Look("", None, settled=True)

    (folder / "_SUCCESS").touch()
    marked = zone.look(DAY)

    assert marked.stamp
    assert marked.settled
    assert marked.fingerprint == zone.fingerprint(DAY, [])


def test_a_look_tells_a_change_by_its_stamp_and_what_changed_by_the_fingerprint(folder: Path) -> None:
    zone, path = LandingZone(folder.parent), folder / "a.csv"
    path.write_bytes(b"a\n1\n")
    looks = [zone.look(DAY), zone.look(DAY)]
    os.utime(path, (1, 1))
    looks.append(zone.look(DAY, looks[-1]))
    path.write_bytes(b"a\n2\n")
    looks.append(zone.look(DAY, looks[-1]))
    (folder / "_SUCCESS").touch()
    looks.append(zone.look(DAY, looks[-1]))

    stamps, fingerprints = [each.stamp for each in looks], [each.fingerprint for each in looks]
    assert stamps[0] == stamps[1]
    assert len(set(stamps)) == 4
    assert fingerprints[0] == fingerprints[1] == fingerprints[2]
    assert fingerprints[3] == fingerprints[4] != fingerprints[0]
    assert all(each.settled for each in looks)


def test_content_is_read_again_only_where_the_stamp_changed(folder: Path) -> None:
    zone = LandingZone(folder.parent)
    (folder / "a.csv").write_bytes(b"a\n1\n")
    before = Look(zone.look(DAY).stamp, "as it was read before", settled=True)

    assert zone.look(DAY, before) is before
    (folder / "b.csv").write_bytes(b"a\n1\n")
    assert zone.look(DAY, before).fingerprint == fingerprint(folder.parent)


@pytest.mark.skipif(sys.platform != "linux", reason="who has a file open is known on Linux only")
def test_a_file_that_is_open_for_writing_is_seen_and_not_read(folder: Path) -> None:
    zone, path = LandingZone(folder.parent), folder / "a.csv"
    path.write_bytes(b"a\n1\n")
    before = zone.look(DAY)
    with written_by_another_process(path, "a"):
        assert zone.look(DAY, before) == Look(before.stamp, None, settled=False)
    assert zone.look(DAY, before).settled


def test_a_look_sees_no_folder_but_that_of_its_day(folder: Path) -> None:
    (folder / "a.csv").write_bytes(b"a\n1\n")
    (folder.parent / "no day at all").mkdir()

    assert LandingZone(folder.parent).look(DAY).fingerprint


def test_a_day_that_is_no_folder_of_files_is_an_error_that_says_where(folder: Path) -> None:
    zone = LandingZone(folder.parent)
    (folder / "loop").symlink_to("loop")
    with pytest.raises(LandingError, match=rf"dt={DAY}/loop"):
        zone.look(DAY)
    (folder / "loop").unlink()
    (folder / "nested").mkdir()
    with pytest.raises(LandingError, match=rf"dt={DAY}/nested: not a file"):
        zone.look(DAY)
    (folder / "nested").rmdir()
    folder.rmdir()
    folder.touch()
    with pytest.raises(LandingError, match=rf"dt={DAY}: not a folder"):
        zone.look(DAY)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take its own rights away, and back")
@pytest.mark.parametrize("locked", ["a.csv", "."], ids=["file", "folder"])
def test_what_this_user_may_not_read_is_an_error_that_says_so(locked: str) -> None:
    with tempfile.TemporaryDirectory() as root:  # tmp_path lies in a folder that is root's alone
        folder = Path(root, f"dt={DAY}")
        folder.mkdir()
        (folder / "a.csv").write_bytes(b"a\n1\n")
        Path(root).chmod(0o755)
        (folder / locked).chmod(0o600)
        os.seteuid(65534)
        try:
            with pytest.raises(LandingError, match="must be able to read"):
                LandingZone(Path(root)).look(DAY)
        finally:
            os.seteuid(0)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "a.csv").write_text("b"),
        lambda folder: (folder / "a.csv").chmod(0o600),
        lambda folder: (folder / "b.csv").touch(),
        lambda folder: (folder / "a.csv").unlink(),
        lambda folder: (folder / "a.csv").rename(folder / "b.csv"),
        lambda folder: (folder.parent / "target.csv").write_text("b"),
        lambda folder: (folder.parent / "new.csv").rename(folder.parent / "target.csv"),
        lambda folder: folder.rename(folder.parent / "elsewhere").rename(folder),
    ],
    ids=["content", "mode", "more", "less", "name", "behind a link", "another behind a link", "away and back"],
)
def test_whatever_happens_to_a_day_s_files_changes_the_time_of_its_last_change(
    folder: Path, change: Callable[[Path], None]
) -> None:
    (folder / "a.csv").write_text("a")
    for name in ("target.csv", "new.csv"):
        (folder.parent / name).write_text("a")
    (folder / "link.csv").symlink_to(folder.parent / "target.csv")
    zone = LandingZone(folder.parent)
    before = changed(zone)
    while changed(zone) == _stamped_now(folder.parent):  # the clock of the file system ticks slowly
        pass

    change(folder)

    after = changed(zone)
    assert after > before
    assert changed(zone) == after, "looking changes nothing"


def changed(zone: LandingZone) -> datetime:
    change = zone.last_change(DAY)
    assert change is not None
    return change.at


def _stamped_now(folder: Path) -> datetime:
    probe = folder / ".probe"
    probe.touch()
    return datetime.fromtimestamp(probe.stat().st_ctime_ns / 1e9, UTC)


def test_a_day_whose_folder_is_another_one_now_has_changed(folder: Path) -> None:
    """A link that leads to another folder, and that folder is old."""
    zone = LandingZone(folder.parent)
    for name in ("one", "two"):
        (folder.parent / name).mkdir()
        (folder.parent / name / "a.csv").write_text(name)
    folder.rmdir()
    folder.symlink_to(folder.parent / "one")
    before = changed(zone)
    while before >= _stamped_now(folder.parent):
        pass
    folder.unlink()
    folder.symlink_to(folder.parent / "two")

    assert changed(zone) > before


def test_a_day_without_a_folder_has_never_changed(folder: Path) -> None:
    folder.rmdir()
    zone = LandingZone(folder.parent)
    assert zone.last_change(DAY) is None
    folder.symlink_to("nowhere")
    assert zone.last_change(DAY) is None


def test_a_day_that_cannot_be_listed_is_an_error_that_says_where(folder: Path) -> None:
    zone = LandingZone(folder.parent)
    (folder / "gone").symlink_to("nowhere")
    assert zone.last_change(DAY) is not None
    (folder / "loop").symlink_to("loop")
    with pytest.raises(LandingError, match=rf"dt={DAY}/(loop|gone)"):
        zone.last_change(DAY)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.touch()
    with pytest.raises(LandingError, match=rf"dt={DAY}: not a folder"):
        zone.last_change(DAY)
