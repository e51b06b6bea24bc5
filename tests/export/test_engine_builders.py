"""Small networks build as TensorRT for RTX engines on a machine without a GPU; none of them is run here."""

import onnx
import pytest
from onnx import TensorProto, helper
from rich.console import Console

from export.comparison_inputs import random_tiles
from export.conversion import run_shipped
from export.engine_builders import EngineBuildError, build_engine, has_builder
from export.fp16.convert import convert_to_fp16
from runtime.engine.device import EngineType
from runtime.manifest import find_model

SMALL = ("basicvsr-flow", "basicvsr-backward", "basicvsr-reconstruction", "realbasicvsr-clean", "unet-clean", "sr-unet")
SMALL += ("rvrt-align", "rvrt-group")
CAPABILITIES = ("sm86", "sm89", "sm120")
EVERY = pytest.mark.parametrize(
    "capabilities", [("sm120",), pytest.param(CAPABILITIES, marks=pytest.mark.slow)], ids=["one", "every"]
)

needs_rtx = pytest.mark.skipif(
    not has_builder(EngineType.RTX), reason="no TensorRT for RTX here: pip install tensorrt-rtx-cu13"
)


@needs_rtx
@EVERY
@pytest.mark.parametrize("name", SMALL)
def test_small_networks_build_for_every_generation_in_both_precisions(
    exported_graphs, tmp_path, name: str, capabilities: tuple[str, ...]
) -> None:
    graph, exported = exported_graphs[name]
    half = convert_to_fp16(exported.path, tmp_path / "half.onnx", random_tiles(graph.inputs, 1)).path
    for source in (exported.path, half):
        for capability in capabilities:
            target = tmp_path / f"{source.stem}-{capability}.engine"
            built = build_engine(source, target, capability=capability)
            assert built.target == capability
            assert target.stat().st_size == built.size_bytes > 1000
    assert not list(tmp_path.glob(".*"))


@needs_rtx
@pytest.mark.slow
def test_hybrid_demucs_builds(exported_graphs, tmp_path) -> None:
    path = exported_graphs["hybrid-demucs"][1].path
    assert build_engine(path, tmp_path / "engine", capability="sm86").size_bytes > 0


def tiny(tmp_path, kind: str = "Relu", domain: str = ""):
    graph = helper.make_graph(
        [helper.make_node(kind, ["x"], ["y"], name="only", domain=domain)],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3))],
    )
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    path = tmp_path / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


@needs_rtx
def test_a_refused_operation_is_reported_and_nothing_is_left(tmp_path) -> None:
    source = tiny(tmp_path, "Unheard", "elsewhere")
    with pytest.raises(EngineBuildError, match=r"tiny.onnx cannot be parsed: .*Unheard"):
        build_engine(source, tmp_path / "engine", capability="sm86")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]


@needs_rtx
def test_a_generation_that_the_builder_does_not_know_is_refused(tmp_path) -> None:
    with pytest.raises(EngineBuildError, match="rtx cannot build for sm87; remove it"):
        build_engine(tiny(tmp_path), tmp_path / "engine", capability="sm87")


@pytest.mark.skipif(has_builder(EngineType.TENSORRT), reason="TensorRT is installed here")
def test_a_missing_builder_names_its_package(tmp_path) -> None:
    with pytest.raises(EngineBuildError, match="tensorrt is not installed; install tensorrt-cu13"):
        build_engine(tiny(tmp_path), tmp_path / "engine", engine_type=EngineType.TENSORRT)


@needs_rtx
@pytest.mark.parametrize(
    "name",
    [
        "light-restore",
        pytest.param("light-x4", marks=pytest.mark.slow),
        pytest.param("light-x2", marks=pytest.mark.slow),
    ],
)
def test_the_shipped_video_models_pass_in_half_and_build(tmp_path, name: str) -> None:
    engines = tuple(f"rtx:{capability}" for capability in CAPABILITIES)

    rows = run_shipped(
        name, {"height": 32, "width": 48}, output=tmp_path, engines=engines, tiles=2, console=Console(quiet=True)
    )

    kinds = [row.kind.split()[0] for row in rows]
    assert kinds == ["fp16", "int8", *["fp32"] * 3, *["fp16"] * 3, *["int8"] * 3]
    assert len(list(tmp_path.glob("*.engine"))) == 9


@needs_rtx
@pytest.mark.parametrize("name", ["speech-mask", pytest.param("speech-demucs", marks=pytest.mark.slow)])
def test_the_shipped_speech_models_pass_in_half_and_build(tmp_path, name: str) -> None:
    """Blocks of four hops or frames: a recurrence of one step builds regardless of casts of its input."""
    rows = run_shipped(
        name, {"samples": 1024}, output=tmp_path, engines=("rtx:sm86",), tiles=5, console=Console(quiet=True)
    )

    assert [row.kind.split()[0] for row in rows] == ["fp16", "fp32", "fp16"]
    assert len(list(tmp_path.glob("*.engine"))) == 2


@needs_rtx
def test_the_builder_itself_fixes_named_sizes(tmp_path) -> None:
    source, target = find_model("light-restore").file(), tmp_path / "engine"
    cache = tmp_path / "timing"

    built = build_engine(source, target, capability="sm86", dimensions={"height": 16, "width": 24}, cache=cache)

    assert built.target == "sm86"
    assert not cache.exists()  # RTX measures when an engine is opened
    before = target.read_bytes()
    with pytest.raises(EngineBuildError, match=r"frame has a dimension named '2\*width'; set each size in it"):
        build_engine(source, target, capability="sm86", dimensions={"height": 16}, cache=cache)
    assert target.read_bytes() == before


@pytest.mark.skipif(not has_builder(EngineType.OPENVINO), reason="openvino is not installed")
def test_openvino_builds_for_this_processor_alone(tmp_path) -> None:
    source, target = find_model("light-x4").file(), tmp_path / "engine.blob"

    built = build_engine(source, target, engine_type=EngineType.OPENVINO, dimensions={"height": 16, "width": 24})

    assert (built.target, built.size_bytes) == ("this processor", target.stat().st_size)
    with pytest.raises(EngineBuildError, match="openvino builds only for this machine's processor; remove sm86"):
        build_engine(source, target, engine_type=EngineType.OPENVINO, capability="sm86")
    with pytest.raises(EngineBuildError, match="height"):
        build_engine(source, tmp_path / "other", engine_type=EngineType.OPENVINO, dimensions={"width": 24})
    assert not (tmp_path / "other").exists()
