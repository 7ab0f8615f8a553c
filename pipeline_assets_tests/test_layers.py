"""Who may import whom, read from the code; and what a new process pays for."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import pipeline_assets

PACKAGE = Path(__file__).resolve().parents[1] / "pipeline_assets"
ROOT = PACKAGE.parent

HEAVY = {"boto3", "mlflow", "pandera", "ray", "sklearn"}
MAY_IMPORT_SETTINGS = {"pipeline_assets.settings", "pipeline_assets.definitions"}
GROUND = {"codec", "errors", "partition", "record"}
FRONT_DOOR = ""
"""The public names, which the package itself gives."""
LAYERS = {
    "codec": set[str](),
    "errors": set[str](),
    "partition": set[str](),
    "record": set[str](),
    "store": set[str](),
    "rules": set[str](),
    "orchestration": {"store", "rules"},
    "report": {"rules", "store"},
    "assets": {"store", "rules", "orchestration", "report", FRONT_DOOR},
    "settings": {"store", "rules"},
    # Stands beside the pipeline: it writes landing files that any reader could have got from anywhere.
    "demo": {"store"},
    "console": {"rules", "report", "orchestration"},
}
"""Which parts of the package a part may import besides itself and the ground; definitions and cli put all together."""
ORCHESTRATION = [
    "finished_days",
    "history",
    "retry",
    "partition",
    "asset",
    "process",
    "backfill",
    "changes",
    "sla",
    "alerts",
]
"""The inside of orchestration, from the ground up: each imports only what stands before it."""
NO_DAGSTER = {"codec", "errors", "partition", "record", "store", "rules", "report", "settings", "demo"}


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, or a name in one."""

    importer: str
    line: int
    name: str
    at_module_level: bool
    for_types_only: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.name}"

    def is_of(self, package: str) -> bool:
        return self.name == package or self.name.startswith(f"{package}.")


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def imports_of(importer: str, path: Path) -> list[Import]:
    found: list[Import] = []

    def visit(node: ast.AST, *, at_module_level: bool, for_types_only: bool) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{importer}:{node.lineno} is a relative import"
                names = [f"{node.module}.{name}" for name in names]
            found.extend(Import(importer, node.lineno, name, at_module_level, for_types_only) for name in names)
            return
        inner = at_module_level and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        types = for_types_only or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        for child in ast.iter_child_nodes(node):
            visit(child, at_module_level=inner, for_types_only=types)

    visit(ast.parse(path.read_text(encoding="utf-8")), at_module_level=True, for_types_only=False)
    return found


IMPORTS = [each for name, path in modules().items() for each in imports_of(name, path)]


def layer(name: str) -> str:
    part = [*name.split("."), FRONT_DOOR][1]
    return FRONT_DOOR if part in pipeline_assets.__all__ else part


def test_the_imports_of_the_package_are_found() -> None:
    assert Import("pipeline_assets.store.parquet", 0, "pyarrow", at_module_level=True, for_types_only=False) in [
        Import(each.importer, 0, each.name, each.at_module_level, each.for_types_only) for each in IMPORTS
    ]
    assert {layer(name) for name in modules()} >= LAYERS.keys() | {"definitions", "cli"}


@pytest.mark.parametrize("part", LAYERS)
def test_a_part_imports_only_what_lies_below_it(part: str) -> None:
    allowed = LAYERS[part] | {part} | (set() if part in GROUND else GROUND)
    wrong = [
        str(each)
        for each in IMPORTS
        if layer(each.importer) == part and each.is_of("pipeline_assets") and layer(each.name) not in allowed
    ]

    assert wrong == []


def test_inside_orchestration_nothing_imports_what_stands_above_it() -> None:
    def place(module: str) -> int:
        return ORCHESTRATION.index([*module.split("."), "", ""][2])

    inside = [each for each in IMPORTS if each.is_of("pipeline_assets.orchestration")]
    within = [each for each in inside if each.importer.count(".") > 1 and layer(each.importer) == "orchestration"]
    assert [str(each) for each in within if place(each.name) > place(each.importer)] == []
    assert {each.importer.split(".")[2] for each in within} >= set(ORCHESTRATION) - {"finished_days"}


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Whether at module level, in a function or for types only."""
    known = modules().keys()
    imported: dict[str, set[str]] = {name: set() for name in known}
    for each in IMPORTS:
        target = each.name if each.name in known else each.name.rpartition(".")[0]
        if target in known and target != each.importer:
            imported[each.importer].add(target)
    circle: list[str] = []
    try:
        TopologicalSorter(imported).prepare()
    except CycleError as error:
        circle = error.args[1]
    assert circle == []


def test_every_part_has_a_place_among_the_layers() -> None:
    assert {layer(name) for name in modules()} - LAYERS.keys() <= {"", "definitions", "cli", "testing"}


@pytest.mark.parametrize("part", sorted(NO_DAGSTER))
def test_bytes_and_verdicts_know_no_dagster(part: str) -> None:
    wrong = [str(each) for each in IMPORTS if layer(each.importer) == part and each.name.startswith("dagster")]

    assert wrong == []


@pytest.mark.parametrize("module", ["day", "audit"])
def test_a_day_is_committed_without_dagster(module: str) -> None:
    importer = f"pipeline_assets.orchestration.asset.{module}"
    imported = [each.name for each in IMPORTS if each.importer == importer]

    assert [each for each in imported if each.startswith("dagster")] == []
    assert imported


def test_only_definitions_and_the_command_import_settings() -> None:
    importers = {each.importer for each in IMPORTS if each.is_of("pipeline_assets.settings")}

    assert {each for each in importers if layer(each) != "cli"} <= MAY_IMPORT_SETTINGS
    assert importers


def test_only_settings_read_the_environment() -> None:
    wrong = [
        f"{name}:{node.lineno}"
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb"}
        if name != "pipeline_assets.settings"
    ]

    assert wrong == []


def test_nothing_outside_of_store_names_a_kind_of_store_or_landing_zone() -> None:
    kinds = ("local", "memory", "http", "landing.LandingZone", "protocol.hive_path", "protocol.FILE_NAME")
    wrong = [
        str(each)
        for each in IMPORTS
        if layer(each.importer) not in {"store", "settings"}
        if any(each.is_of(f"pipeline_assets.store.{kind}") for kind in kinds)
    ]

    assert wrong == []


def test_rules_touch_no_file_clock_or_chance() -> None:
    impure = {"io", "os", "pathlib", "random", "secrets", "shutil", "socket", "subprocess", "tempfile", "time", "uuid"}
    wrong = [str(each) for each in IMPORTS if layer(each.importer) == "rules" and each.name.split(".")[0] in impure]

    assert wrong == []


def test_nothing_private_of_dagster_is_used_but_for_backfills_in_one_module() -> None:
    private = [each for each in IMPORTS if each.name.startswith("dagster") and "._" in each.name]

    # Nothing public launches a backfill of different days per table without a webserver, or asks by status.
    assert {each.importer for each in private} == {"pipeline_assets.orchestration.backfill.of_dagster"}


def test_heavy_modules_are_imported_where_they_are_used() -> None:
    wrong = [
        str(each)
        for each in IMPORTS
        if each.at_module_level and not each.for_types_only and each.name.split(".")[0] in HEAVY
    ]

    assert wrong == []


def test_a_run_does_not_pay_for_heavy_modules(tmp_path: Path) -> None:
    """Each run is a new process that imports the definitions."""
    definitions = ast.parse((PACKAGE / "definitions.py").read_text(encoding="utf-8"))
    statements = [ast.unparse(each) for each in definitions.body if isinstance(each, ast.Import | ast.ImportFrom)]
    program = "\n".join([*statements, "import sys", "print(*sys.modules, sep='\\n')"])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    imported = set(done.stdout.split())

    assert imported >= {"dagster", "pipeline_assets.assets.pipeline", "pipeline_assets.orchestration"}
    assert imported & HEAVY == set()


def test_loading_the_definitions_does_not_import_pandas(tmp_path: Path) -> None:
    code = "import sys, pipeline_assets.definitions; sys.exit('pandas' in sys.modules)"
    environment = {**os.environ, "PIPELINE_LANDING": str(tmp_path), "PIPELINE_STORE": str(tmp_path / "lake")}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, check=False)
    assert ended.returncode == 0
