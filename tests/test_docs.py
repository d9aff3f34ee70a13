"""Tests that every command, path and config key on the pages exists."""

import re
import shlex
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest
import typer.main
import yaml
from pydantic import BaseModel
from typer.core import TyperGroup

from audit.config.benchmark.sections import BenchmarkConfig
from audit.config.fields import CLOSED
from audit.config.models.read import read_audits
from audit.config.settings import AuditConfig
from docs_site.__main__ import MADE_PAGES
from ray_jobs.cli.commands import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
PROGRAM = typer.main.get_command(app)
TOP = "audit|benchmarks|configs|docs|docs_site|ray_jobs|reports|tests"
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(`+)(.+?)\1", re.DOTALL)
IN_REPOSITORY = re.compile(rf"(?<![\w./*-])(?:{TOP})/[\w./-]*\w(?![\w*])")
NAMED_IN = re.compile(rf"`([\w.]+)` \(?(?:in )?`((?:{TOP})/[\w/]+\.py)`")
LINK = re.compile(r"\]\(([^)#\s]+)")
MAKE = re.compile(r"\bmake ([a-z][a-z-]*)")
MODULE = re.compile(r"python -m ((?:audit|benchmarks|docs_site|ray_jobs|reports)[\w.]*)([^\n`]*)")
FILE_TYPES = ("html", "json", "pdf", "py")
WHOLE = {"name": "docs", "mitigations": [{"name": "difflens-gender", "method": "difflens", "attribute": "gender"}]}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def text_of(page):
    return page.read_text(encoding="utf-8")


@cache
def code_of(page):
    """Return every line of code on a page: those of its blocks, and text between backticks."""
    text = text_of(page).replace("\\\n", "")
    spans = [" ".join(found.split()) for _, found in SPAN.findall(FENCE.sub("", text))]
    return [*(line for _, block in FENCE.findall(text) for line in block.splitlines()), *spans]


def words_of(line):
    """Split a line of code like a shell, without its comment; at blanks if that fails."""
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return line.split()


def calls_of(page):
    """Return calls of the program, as words: named ones, and bare ones such as ``submit --wait``."""
    for line in code_of(page):
        words = words_of(line)
        if "difflens-audit" in words:
            yield words[words.index("difflens-audit") + 1 :]
        elif words and words[0] in PROGRAM.commands and any(word.startswith("--") for word in words):
            yield words


def command_of(words):
    """Return the command that these words call, None if no command has this name."""
    command, rest = PROGRAM, list(words)
    while rest and isinstance(command, TyperGroup):
        command = command.commands.get(rest.pop(0))
    return command


def options_of(command):
    own = {name for parameter in command.params for name in parameter.opts}
    return own.union(*map(options_of, command.commands.values())) if isinstance(command, TyperGroup) else own


@each_page
def test_every_command_and_every_option_of_it_exists(page):
    for words in calls_of(page):
        command = command_of(words)
        assert command is not None, f"difflens-audit {' '.join(words)}"
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= options_of(command), f"difflens-audit {' '.join(words)}"


@each_page
def test_every_option_on_a_page_belongs_to_a_command(page):
    named = {line.split()[0] for line in code_of(page) if line.startswith("--")}
    assert named <= options_of(PROGRAM)


@each_page
def test_every_path_in_the_repository_and_every_linked_file_exists(page):
    named = {path for line in code_of(page) for path in IN_REPOSITORY.findall(line)}
    linked = {link for link in LINK.findall(text_of(page)) if "://" not in link}
    assert [path for path in named if not (ROOT / path).exists()] == []
    made = {ROOT / "docs" / name for name in MADE_PAGES}
    assert [
        link for link in linked if not (page.parent / link).exists() and (page.parent / link).resolve() not in made
    ] == []


@each_page
def test_every_name_is_in_the_module_that_the_page_names(page):
    for name, module in NAMED_IN.findall(text_of(page)):
        source = text_of(ROOT / module)
        assert all(re.search(rf"\b{part}\b", source) for part in name.split(".")), f"{name} in {module}"


@each_page
def test_every_module_that_is_run_exists_with_its_options(page):
    for line in code_of(page):
        for module, rest in MODULE.findall(line):
            spec = find_spec(module)
            assert spec is not None, module
            sources = Path(spec.origin).parent.glob("*.py") if spec.submodule_search_locations else [Path(spec.origin)]
            source = "".join(map(text_of, sources))
            assert all(f'"{option}"' in source for option in re.findall(r"--[\w-]+", rest)), line


@each_page
def test_every_target_of_make_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    assert {name for line in code_of(page) for name in MAKE.findall(line)} <= targets


@each_page
def test_every_config_is_valid_and_so_is_every_part_of_one_in_its_place(page, tmp_path):
    """Merge a part of a config into a complete one that has what the part refers to."""
    for language, block in FENCE.findall(text_of(page)):
        if language == "yaml":
            part = yaml.safe_load(block)
            if "methods" in part:
                BenchmarkConfig.model_validate(part)
                continue
            if "models" in part:
                path = tmp_path / "models.yaml"
                path.write_text(block)
                assert read_audits(path).audits
                continue
            closed = part.get("model", {}).get("source") in CLOSED
            AuditConfig.model_validate((WHOLE | ({"mitigations": []} if closed else {})) | part)


@each_page
def test_every_key_of_a_config_exists(page):
    for line in code_of(page):
        key = re.fullmatch(r"([a-z_]+(?:\.[a-z_]+)+)(?:[ :=].*)?", line)
        first, *rest = key[1].split(".") if key else ("",)
        if first not in AuditConfig.model_fields or rest[-1] in FILE_TYPES:
            continue
        section = AuditConfig
        for name in (first, *rest):
            assert name in section.model_fields, line
            kinds = models_in(section.model_fields[name].annotation)
            section = kinds[0] if kinds else None


def models_in(annotation):
    """Return the sections of a config that a field can contain."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in models_in(part)]
