"""How workers share the tests (`pytest -n 2 --dist loadgroup`): file by file, for much is made once for a file.

And which tests get a second chance.
"""

from collections.abc import Generator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        file = item.path.relative_to(TESTS)
        # The page's tests share a server, and two browsers at once would take each other's time.
        group = "page" if file.is_relative_to("appliance/page") else file.as_posix()
        item.add_marker(pytest.mark.xdist_group(group))
        if file.is_relative_to("appliance"):
            # Real servers, workers and a browser, which a busy machine can hold up for longer than any test waits. One
            # that fails is run once more; the summary names it, and it is to be mended.
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # Names that are no valid Unicode get into logs, and a worker could not send them.
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report
