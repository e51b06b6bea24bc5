import onnx
import pytest
from onnx import TensorProto, helper

from export.onnx_export import set_static_shapes


def named(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Concat", ["x", "x"], ["y"], name="twice", axis=1)],
        "named",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, "height"))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, "2*height"))],
    )
    path = tmp_path / "named.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_names_and_their_multiples_become_sizes(tmp_path) -> None:
    set_static_shapes(named(tmp_path), tmp_path / "fixed.onnx", {"height": 6})
    graph = onnx.load(tmp_path / "fixed.onnx").graph
    sizes = [value.type.tensor_type.shape.dim[1].dim_value for value in (*graph.input, *graph.output)]
    assert sizes == [6, 12]


def test_a_name_without_a_size_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="x has a dimension named height; set each size in it, got"):
        set_static_shapes(named(tmp_path), tmp_path / "fixed.onnx", {"width": 6})
    assert not (tmp_path / "fixed.onnx").exists()
