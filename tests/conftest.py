"""How workers divide the tests, and what they share (`pytest -n 2 --dist loadgroup`)."""

import fcntl
import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.fake_cupy import FakeCupy

TESTS = Path(__file__).parent
# Two workers whose libraries use one thread per core would spin waiting for each other.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# The longest groups start first, so that the workers finish together.
FIRST = ("page", "appliance/jobs/test_supervisor.py", "export", "runtime/resume", "training", "appliance")


def group_of(file: Path) -> str:
    """Return the name of the tests that one worker runs: a file's, since many fixtures are created once per file.

    The page's tests share servers and a browser, and two browsers at once would slow each other down.
    """
    return "page" if file.is_relative_to("appliance/page") else file.as_posix()


class GroupScheduling(LoadScopeScheduling):
    """Sends a group to one worker, in the order of the collection.

    xdist's own groups need `_nodeid` of an item, which pytest 9.2 has no more: each test went to any worker.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(Path(nodeid.partition("::")[0]).relative_to("tests"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling | None:
    if config.getvalue("dist") != "loadgroup":
        return None
    config.option.loadscopereorder = False
    return GroupScheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        group = group_of(item.path.relative_to(TESTS))
        return next((place for place, name in enumerate(FIRST) if group.startswith(name)), len(FIRST))

    items.sort(key=rank)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # Names that are not valid Unicode get into logs, and a worker could not send them.
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Return a function that returns a named folder, filled once for all workers by the first to request it."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder = shared / name
        folder.mkdir(parents=True, exist_ok=True)
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / ".filled").exists():
                fill(folder)
                (folder / ".filled").touch()
        return folder

    return make


@pytest.fixture(scope="session")
def kernel_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of compiled CUDA kernels for emulation on a CPU; all workers share it."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "emulated"


@pytest.fixture
def fake_cupy(kernel_folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCupy:
    """Replace CuPy with an array module that emulates a GPU on the CPU; see `tests.fake_cupy`."""
    cupy = FakeCupy(kernel_folder)
    for name in ("cupy", "cupyx"):
        monkeypatch.setitem(sys.modules, name, cupy.modules()[name])
    return cupy
