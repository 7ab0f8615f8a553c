"""The template and the README agree with the function. Nothing here can tell what AWS makes of them."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from typing import Any

import yaml  # type: ignore[import-untyped]
from landing_trigger.events import CREATED, REMOVED
from landing_trigger.handler import ATTEMPTS, FIRST_DELAY_SECONDS, REQUEST_SECONDS, RESERVE_SECONDS

from pipeline_assets_tests.deploy.aws.dagster_webserver_process import DEPLOYED, FUNCTION

README = (DEPLOYED / "README.md").read_text(encoding="utf-8")
MODULES = sorted((FUNCTION / "landing_trigger").glob("*.py"))


class Template(yaml.SafeLoader):  # type: ignore[misc]
    """Reads CloudFormation's short forms: `!Ref Queue` as {"Ref": "Queue"}."""


def _short_form(loader: Any, tag: str, node: Any) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return {tag: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {tag: loader.construct_sequence(node, deep=True)}
    return {tag: loader.construct_mapping(node, deep=True)}


Template.add_multi_constructor("!", _short_form)
TEMPLATE = yaml.load((DEPLOYED / "template.yaml").read_text(encoding="utf-8"), Template)  # noqa: S506 - a safe loader
RESOURCES = TEMPLATE["Resources"]
PROPERTIES = {name: each["Properties"] for name, each in RESOURCES.items()}


def named_in(value: Any) -> set[str]:
    """Resources, parameters and conditions that a part of the template refers to."""
    if isinstance(value, list):
        return {name for each in value for name in named_in(each)}
    if not isinstance(value, dict):
        return set()
    found = {name for each in value.values() for name in named_in(each)}
    match value:
        case {"Ref": str(name)} | {"If": [str(name), *_]}:
            found.add(name)
        case {"GetAtt": str(name)}:
            found.add(name.split(".")[0])
        case {"Sub": str(text)}:
            found |= {name.split(".")[0] for name in re.findall(r"\$\{([^}]+)\}", text)}
    return {name for name in found if not name.startswith("AWS::")}


def environment_of_the_function() -> set[str]:
    """Names that `configured` asks the environment for."""
    tree = ast.parse((FUNCTION / "landing_trigger" / "handler.py").read_text(encoding="utf-8"))
    return {
        str(node.args[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "environment.get"
        if isinstance(node.args[0], ast.Constant)
    }


def test_the_function_of_the_template_exists() -> None:
    module, _, name = PROPERTIES["Function"]["Handler"].rpartition(".")

    assert (DEPLOYED / PROPERTIES["Function"]["Code"]) == FUNCTION
    assert callable(getattr(importlib.import_module(module), name))


def test_template_readme_and_function_know_the_same_settings() -> None:
    known = environment_of_the_function()

    assert len(known) == 5
    assert set(PROPERTIES["Function"]["Environment"]["Variables"]) == known
    assert set(re.findall(r"^\| `([A-Z_]+)`", README, re.MULTILINE)) == known


def test_every_name_in_the_template_is_defined_and_every_parameter_is_used() -> None:
    used = named_in([RESOURCES, TEMPLATE["Outputs"], TEMPLATE["Conditions"]])

    assert used <= RESOURCES.keys() | TEMPLATE["Parameters"].keys() | TEMPLATE["Conditions"].keys()
    assert used >= TEMPLATE["Parameters"].keys() | TEMPLATE["Conditions"].keys()


def test_the_rule_sends_what_the_function_reports() -> None:
    kinds = PROPERTIES["Changes"]["EventPattern"]["detail-type"]

    assert sorted(kinds) == sorted(name for name in (*CREATED, *REMOVED) if " " in name)


def test_messages_that_fail_come_back_and_end_in_the_dead_letter_queue() -> None:
    queue, batches = PROPERTIES["Queue"], PROPERTIES["Batches"]

    assert batches["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == {"GetAtt": "DeadLetters.Arn"}
    least = 6 * PROPERTIES["Function"]["Timeout"] + batches["MaximumBatchingWindowInSeconds"]
    assert queue["VisibilityTimeout"] >= least
    assert queue["VisibilityTimeout"] * queue["RedrivePolicy"]["maxReceiveCount"] > 10 * 3600


def test_an_invocation_has_time_to_try_again_before_lambda_cuts_it_off() -> None:
    delays = sum(FIRST_DELAY_SECONDS * 2**attempt * 1.5 for attempt in range(ATTEMPTS - 1))

    assert delays + REQUEST_SECONDS + RESERVE_SECONDS < PROPERTIES["Function"]["Timeout"]


def test_the_function_needs_nothing_but_the_standard_library() -> None:
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }

    outside = {str(name).split(".")[0] for name in imported} - {"landing_trigger", "__future__"}
    assert outside
    assert outside <= sys.stdlib_module_names
