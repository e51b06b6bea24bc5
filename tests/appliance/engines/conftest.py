from importlib.util import find_spec
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and find_spec("openvino") is None:
            item.add_marker(pytest.mark.skip(reason="openvino is not installed"))
