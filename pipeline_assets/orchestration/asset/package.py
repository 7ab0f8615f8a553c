"""The tables of a package: what the files directly in it define. A new table is one new file.

Files are taken in the order of their names. One that defines no asset is left alone, so helpers may lie among them.
"""

import pkgutil
import traceback
from collections.abc import Iterable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any, Unpack

import dagster as dg

from pipeline_assets.errors import DefinitionError
from pipeline_assets.orchestration.asset.decorator import DailyAsset, Defaults

Asset = dg.AssetsDefinition | dg.AssetSpec
Defined = Asset | DailyAsset[..., Any]


def with_tables_of(
    package: ModuleType,
    beside: Iterable[Defined],
    *,
    partitions_def: dg.TimeWindowPartitionsDefinition,
    **defaults: Unpack[Defaults],
) -> list[Asset]:
    """The assets `beside`, and those of the files of the package.

    Args:
        partitions_def: days of every `DailyAsset`; an asset that is defined in full stays as it is.
        **defaults: of the same, for what their authors did not state.

    Raises:
        DefinitionError: a file cannot be imported, a daily asset cannot be made, two tables have one name, or an input
            of a daily asset is no table. The message begins with the file.
    """
    assets: list[Asset] = []
    places: dict[dg.AssetKey, str] = {}
    inputs: list[tuple[str, dg.AssetKey]] = []
    for defined, place in [*((each, "the pipeline") for each in beside), *_defined_in(package)]:
        if isinstance(defined, DailyAsset):
            file = _file(defined.function.__module__)
            try:
                made = defined.with_defaults(partitions_def, **defaults)
            except Exception as error:
                raise DefinitionError(
                    f"{file}: {defined.function.__name__} cannot be made an asset: {error}"
                ) from error
            inputs += [(file, made.keys_by_input_name[name]) for name in defined.options.get("ins", {})]
            asset: Asset = made
        else:
            file, asset = place, defined
        for key in [asset.key] if isinstance(asset, dg.AssetSpec) else asset.keys:
            if key in places:
                raise DefinitionError(
                    f"{file}: {places[key]} has a table {key.to_user_string()} already. Name one of them otherwise."
                )
            places[key] = file
        assets.append(asset)
    for file, key in inputs:
        if key not in places:
            known = ", ".join(sorted(each.to_user_string() for each in places))
            raise DefinitionError(f"{file}: its input {key.to_user_string()} is no table; tables: {known}")
    return assets


def _defined_in(package: ModuleType) -> Iterator[tuple[Defined, str]]:
    """Assets with the file that holds them, each once, whoever imports it besides."""
    seen = set[int]()
    for each in sorted(pkgutil.iter_modules(package.__path__), key=lambda found: found.name):
        if each.ispkg:
            continue
        name = f"{package.__name__}.{each.name}"
        for value in vars(_imported(name)).values():
            if isinstance(value, dg.AssetsDefinition | dg.AssetSpec | DailyAsset) and id(value) not in seen:
                seen.add(id(value))
                yield value, _file(name)


def _imported(name: str) -> ModuleType:
    try:
        return import_module(name)
    except Exception as error:
        file = _file(name)
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(file)]
        at = f", line {lines[-1]}" if lines else ""
        raise DefinitionError(f"{file}{at}: cannot be imported: {type(error).__name__}: {error}") from error


def _file(module: str) -> str:
    """The path of a module, from the project's folder."""
    return f"{module.replace('.', '/')}.py"
