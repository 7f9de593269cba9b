"""The public list is true, and importing it costs nothing foreign."""

import subprocess
import sys

import playhead


def test_every_public_name_is_there() -> None:
    assert len(set(playhead.__all__)) == len(playhead.__all__)
    for name in playhead.__all__:
        assert getattr(playhead, name) is not None


def test_nothing_public_is_missing_from_the_list() -> None:
    modules = {"blob", "errors", "respond", "tree", "version"}
    public = {name for name in vars(playhead) if not name.startswith("_")} - modules
    inner = {name for name, value in vars(playhead).items() if type(value).__name__ == "module"}
    assert public - inner - {"Mapping", "TYPE_CHECKING"} <= set(playhead.__all__)


def test_importing_loads_no_foreign_module() -> None:
    code = "import sys; before = set(sys.modules); import playhead; print(*set(sys.modules) - before)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in answer.stdout.split()}
    assert loaded - {"playhead"} <= sys.stdlib_module_names
