"""Every network is validated once, results are kept, and a failure is a line of the table."""

import json

import pytest
from torch import nn

from export.fp16.convert import Fp16Error
from export.onnx_export import Graph
from export.validate import run
from export.validate.cases import SHIPPED, case_graphs, case_shape, find_cases
from export.validate.report import (
    EngineResult,
    GraphResult,
    NetworkResult,
    digest_conditions,
    digest_structure,
    passed_structures,
    read_result,
    write_markdown,
    write_result,
)
from export.validate.run import ValidationRequest, run_validation, validate_network
from models.registry import REGISTRY, UnknownNetworkError
from runtime.manifest import list_models


def test_all_networks_and_all_that_ships_are_on_the_list_the_quick_ones_first() -> None:
    names = find_cases()
    shipped = {f"{SHIPPED}{model.manifest.name}" for model in list_models()}
    assert set(names) == {entry.name for entry in REGISTRY} | shipped
    assert names.index("residual-rvrt-tiny") < names.index("residual-rvrt-001") < names.index("rvrt-001")
    assert find_cases(("sr-unet-x2", "light-x2")) == ["sr-unet-x2", "light-x2"]


def test_a_name_that_nothing_has_is_refused() -> None:
    with pytest.raises(UnknownNetworkError, match="no network named nothing"):
        find_cases(("nothing",))


@pytest.mark.parametrize("name", ["residual-rvrt-tiny", "rvrt-004"])
def test_rvrt_is_proven_where_windows_shift_and_a_clip_is_aligned(name: str) -> None:
    entry = REGISTRY.find(name)
    network = entry.build()
    (height, width), frames = case_shape(entry, network)
    inside = height if network.config.scale == 4 else height // 4
    assert inside > network.config.window
    assert height == width
    assert frames == 4


def test_a_chain_is_validated_whole_and_in_steps(tmp_path) -> None:
    graphs = [graph for graph, path in case_graphs("unet-2lev-1res-ws", tmp_path)]
    assert [graph.role for graph in graphs] == ["window", "clean", "flow", "backward", "forward", "reconstruction"]
    assert digest_structure(graphs[3]) == digest_structure(graphs[4])
    assert len({digest_structure(graph) for graph in graphs}) == 5


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.linear = nn.Linear(2, 2)


def test_a_structure_is_all_but_the_numbers_in_the_weights() -> None:
    def digest(module: nn.Module, size: int = 4) -> str:
        return digest_structure(Graph("window", module, {"x": (1, size)}, ("y",)))

    assert digest(Scaled(1)) == digest(Scaled(1))
    assert len({digest(Scaled(1)), digest(Scaled(2)), digest(Scaled(1), 8), digest(nn.Linear(2, 2))}) == 4


def test_other_options_are_other_conditions() -> None:
    assert digest_conditions({"tiles": 1}) == digest_conditions({"tiles": 1})
    assert digest_conditions({"tiles": 1}) != digest_conditions({"tiles": 2})


def validate_mask(folder) -> NetworkResult:
    validate_network("shipped-speech-mask", ValidationRequest(folder, tiles=2), "now")
    result = read_result(folder, "shipped-speech-mask", "now")
    assert result is not None
    return result


def test_a_shipped_model_passes_and_its_files_are_gone(tmp_path) -> None:
    result = validate_mask(tmp_path)

    assert result.passed
    assert result.weights == "as shipped"
    assert result.graphs[0].psnr_db >= 50
    assert (result.graphs[0].random_tiles, result.graphs[0].real_tiles) == (2, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["shipped-speech-mask.json"]
    assert read_result(tmp_path, "shipped-speech-mask", "later") is None


def test_a_failed_gate_is_reported_and_nothing_is_kept(tmp_path, monkeypatch) -> None:
    def convert(*_, **__):
        raise Fp16Error("output y of tile 3 has 49.0 dB")

    monkeypatch.setattr(run, "convert_to_fp16", convert)

    result = validate_mask(tmp_path)

    assert result.complete
    assert not result.passed
    assert result.graphs[0].failure == "output y of tile 3 has 49.0 dB"
    write_markdown(tmp_path / "validation.md", [result])
    assert "49.0 dB" in (tmp_path / "validation.md").read_text().splitlines()[2]


def test_the_same_structure_is_not_proven_twice(tmp_path) -> None:
    first = validate_mask(tmp_path)
    (graph,) = first.graphs
    write_result(tmp_path, first.model_copy(update={"name": "another"}))
    (tmp_path / "shipped-speech-mask.json").unlink()

    again = validate_mask(tmp_path)

    assert again.graphs[0].same_as == "another step"
    assert again.graphs[0].psnr_db == graph.psnr_db
    assert again.passed
    assert list(passed_structures([again])) == []


@pytest.mark.slow
def test_each_network_has_a_process_and_what_crashes_is_a_line(tmp_path) -> None:
    broken = tmp_path / "no clip.mkv"
    broken.write_bytes(b"nothing")
    request = ValidationRequest(tmp_path / "out", ("shipped-light-x2",), tiles=1, clips=(broken,))

    (result,) = run_validation(request)

    assert result.failure == "the process ended with 1"
    assert not result.passed
    assert "the process ended with 1" in (tmp_path / "out" / "validation.md").read_text()


def test_a_valid_result_is_not_recomputed(tmp_path, monkeypatch) -> None:
    request = ValidationRequest(tmp_path, ("shipped-speech-mask",), tiles=2)
    validate_network("shipped-speech-mask", request, digest_conditions(request.options))
    monkeypatch.setattr(run, "_validate_in_subprocess", lambda *_: pytest.fail("it was validated again"))
    (result,) = run_validation(request)
    assert result.passed


def test_an_interrupted_validation_continues_with_the_missing_graph(tmp_path, monkeypatch) -> None:
    request = ValidationRequest(tmp_path)
    validated: list[str] = []

    def validate_graph(graph, *_):
        if len(validated) == 3:
            raise KeyboardInterrupt
        validated.append(graph.role)
        yield GraphResult(role=graph.role, structure=graph.role, shapes=graph.inputs, complete=True)

    monkeypatch.setattr(run, "_validate_graph", validate_graph)
    with pytest.raises(KeyboardInterrupt):
        validate_network("unet-2lev-1res-ws", request, "now")
    broken_off = read_result(tmp_path, "unet-2lev-1res-ws", "now")
    monkeypatch.setattr(run, "digest_structure", lambda graph: graph.role)
    validated.append("nothing more is broken off")
    validate_network("unet-2lev-1res-ws", request, "now")
    result = read_result(tmp_path, "unet-2lev-1res-ws", "now")

    assert not broken_off.complete
    assert [graph.role for graph in broken_off.graphs] == ["window", "clean", "flow"]
    assert result.passed
    assert validated[4:] == ["backward", "forward", "reconstruction"]


def test_a_refused_engine_fails_the_proof_and_shows_in_the_table(tmp_path) -> None:
    engines = (
        EngineResult(precision="fp32", target="rtx sm86", size_bytes=1),
        EngineResult(precision="fp16", target="rtx sm86", failure="ssa_validation"),
    )
    graph = GraphResult(role="window", structure="s", shapes={"x": (1, 3)}, parity=1e-7, engines=engines, complete=True)
    result = NetworkResult(name="n", parameters=1, weights="random", conditions="c", graphs=(graph,), whole=True)
    write_result(tmp_path, result)
    assert json.loads((tmp_path / "n.json").read_text())["name"] == "n"
    assert not result.passed
    write_markdown(tmp_path / "validation.md", [result])
    assert "| 1x3 | 1.0e-07 |  |  | fp32 sm86; fp16 refused for sm86 | no |" in (tmp_path / "validation.md").read_text()
