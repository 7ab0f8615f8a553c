"""The files that install and start the project agree with each other and name no machine."""

import configparser
import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]

# Where setup.cfg keeps what a [project] table of pyproject.toml would say under the same or another name.
SETUP_CFG_NAMES = {
    "dependencies": "install_requires",
    "optional-dependencies": "extras_require",
    "readme": "long_description",
    "requires-python": "python_requires",
    "scripts": "entry_points",
}

CODE = {".py", ".pyc"}

# Written in pieces, so that this file does not hold what it forbids.
MACHINE_PATH = re.compile(r"(?<![\w./~$}-])/(?:" + r"work|root|home|Users)/")
PACKAGE_INDEX = re.compile(r"index[-_]" + "url|find" + "-links|python" + r"hosted|://\S+/simp" + "le(/|$)")


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def pyproject() -> Mapping[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def declared(section: str, option: str) -> list[Requirement]:
    lines = setup_cfg()[section][option].splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def locked() -> dict[Requirement, list[str]]:
    """Return the hashes of each locked requirement."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    statements = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    pinned = {}
    for statement in statements:
        requirement, *hashes = statement.split("--hash=")
        pinned[Requirement(requirement)] = [digest.strip() for digest in hashes]
    return pinned


def locked_versions(name: str) -> list[Version]:
    return [
        Version(str(requirement.specifier).removeprefix("==")) for requirement in locked() if requirement.name == name
    ]


def tracked_texts() -> Iterator[tuple[str, str]]:
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    for name in filter(None, listing.split("\0")):
        path = ROOT / name
        if path.is_symlink() or not path.is_file():
            continue
        try:
            yield name, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def test_no_key_stands_in_both_pyproject_and_setup_cfg() -> None:
    cfg = setup_cfg()
    in_setup_cfg = {option for section in ("metadata", "options") for option in cfg[section]}
    in_setup_cfg |= {section.removeprefix("options.") for section in cfg if section.startswith("options.")}
    in_pyproject = {SETUP_CFG_NAMES.get(key, key) for key in pyproject().get("project", {})}
    assert in_pyproject & in_setup_cfg == set()
    assert "setuptools" not in pyproject()["tool"]


def test_pyproject_does_not_take_the_code_location_from_workspace_yaml() -> None:
    assert pyproject()["tool"].keys() & {"dagster", "dg"} == set()


def test_every_locked_requirement_is_one_version_with_hashes() -> None:
    pinned = locked()
    assert pinned
    for requirement, hashes in pinned.items():
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in hashes), requirement


def test_the_lock_names_no_host_and_no_path() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in lock
    assert not re.search(r"^\s*-(?!-hash=)", lock, flags=re.MULTILINE)
    assert not re.search(r"(?:^|\s)\.{0,2}/", lock)
    assert " @ " not in lock


def test_the_lock_satisfies_what_setup_cfg_declares() -> None:
    wanted = declared("options", "install_requires") + declared("options.extras_require", "dev")
    stale = [
        str(requirement)
        for requirement in wanted
        if not (versions := locked_versions(requirement.name))
        or not all(version in requirement.specifier for version in versions)
    ]
    assert stale == [], "run `make lock`"


def test_sqlalchemy_stays_below_the_version_that_reads_postgres_urls_as_psycopg_3() -> None:
    (sqlalchemy,) = (r for r in declared("options", "install_requires") if r.name == "sqlalchemy")
    assert Version("2.1") not in sqlalchemy.specifier
    assert [version for version in locked_versions("sqlalchemy") if version >= Version("2.1")] == []


def test_no_tracked_file_names_a_package_index_or_a_path_of_one_machine() -> None:
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in tracked_texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if MACHINE_PATH.search(line) or PACKAGE_INDEX.search(line)
    ]
    assert found == []


def test_every_file_of_the_package_that_is_no_module_is_shipped() -> None:
    cfg = setup_cfg()
    shipped = {
        path
        for package, patterns in cfg["options.package_data"].items()
        for pattern in patterns.split()
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    others = {path for path in (ROOT / "pipeline_assets").rglob("*") if path.is_file() and path.suffix not in CODE}
    assert others == shipped
