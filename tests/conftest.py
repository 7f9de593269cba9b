"""Coroutines as tests: each in a loop of its own, and nothing may be left behind in it."""

import asyncio
import inspect
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from playhead import secrets


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No test reads or writes the configuration and state of whoever runs it."""
    home = tmp_path_factory.mktemp("home")
    for name in ("CONFIG", "STATE", "CACHE", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))
    monkeypatch.delenv("PLAYHEAD_CONFIG", raising=False)
    monkeypatch.setattr(secrets, "_known", set())  # what another test took for a secret may be a word here
    monkeypatch.setattr(secrets, "_brief", deque(maxlen=256))
    yield home
