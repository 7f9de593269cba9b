"""What can be typed is documented: every command, every option, every key of the configuration."""

import argparse
import re
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from playhead import cli
from playhead.config import Config, LogConfig, ReservoirConfig, TreeConfig

ROOT = Path(__file__).parent.parent


@cache
def documents() -> str:
    """The README and whatever is in docs/."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
    return "\n".join(page.read_text("utf-8") for page in pages if page.exists())


def _commands() -> dict[str, argparse.ArgumentParser]:
    [found] = [action for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found.choices)


def _options() -> list[tuple[str, str]]:
    every = {"playhead": cli.parser(), **_commands()}
    options = [
        (name, text) for name, made in every.items() for action in made._actions for text in action.option_strings
    ]
    return [(name, text) for name, text in options if text.startswith("--") and text != "--help"]


def _keys() -> list[tuple[str, str]]:
    kinds = {"": Config, "tree.NAME": TreeConfig, "log": LogConfig, "reservoir": ReservoirConfig}
    keys = [(table, known.name) for table, kind in kinds.items() for known in fields(kind)]
    return [pair for pair in keys if pair != ("", "folder")]  # which is where the file lies, and no key


@pytest.mark.parametrize("name", _commands())
def test_every_command_is_documented(name: str) -> None:
    assert re.search(rf"\bplayhead {name}\b", documents())


@pytest.mark.parametrize(("command", "option"), _options(), ids=str)
def test_every_option_is_documented(command: str, option: str) -> None:
    assert re.search(rf"(?<![\w-]){option}(?![\w-])", documents())


@pytest.mark.parametrize(("table", "key"), _keys(), ids=lambda word: word or "top")
def test_every_key_of_the_configuration_is_documented(table: str, key: str) -> None:
    """As code: `key`, `key = ...`, { key = ...` or [key...]."""
    assert re.search(rf"`(?:\w+\.)*{key}`|(?:^|[\s{{,.`]){key}\s*=|\[{key}[\].]", documents(), re.MULTILINE)
