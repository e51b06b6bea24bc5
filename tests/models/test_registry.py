import pytest
from torch import nn

from models.basicvsr import count_parameters
from models.registry import REGISTRY, DuplicateNameError, Entry, Registry, Task, UnknownNetworkError


def entry(name: str) -> Entry:
    return Entry(name, Task.VIDEO_RESTORATION, "none", lambda: nn.Linear(1, 1))


def test_a_duplicate_is_refused_and_changes_nothing() -> None:
    registry = Registry((entry("a"),))
    with pytest.raises(DuplicateNameError, match="a network named a is already registered"):
        registry.add(entry("b"), entry("a"))
    assert [one.name for one in registry] == ["a"]


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownNetworkError, match="no network named c; there are: a, b"):
        Registry((entry("a"), entry("b"))).find("c")


def test_every_network_of_the_list_is_there() -> None:
    names = {one.name for one in REGISTRY}
    assert {f"{kind}rvrt-00{number}" for number in range(1, 7) for kind in ("", "residual-")} <= names
    assert {"residual-rvrt-small", "residual-rvrt-tiny", "basicvsr", "realbasicvsr", "sr-unet-x2"} <= names
    assert {f"unet-{lev}lev-{res}res-{ws}" for lev in (2, 3, 4) for res in (1, 2) for ws in ("ws", "wos")} <= names
    assert {"demucs-48", "demucs-64", "hybrid-demucs"} <= names


@pytest.mark.parametrize("name", ["residual-rvrt-tiny", "unet-2lev-1res-ws", "sr-unet-x2", "light-x2", "demucs-48"])
def test_entries_build(name: str) -> None:
    assert count_parameters(REGISTRY.find(name).build()) > 0


def test_every_entry_names_its_paper() -> None:
    assert all("arXiv" in one.paper for one in REGISTRY)
