"""Fixing a file's named dimensions: builders without optimisation profiles want every size to be a number."""

from collections.abc import Mapping
from pathlib import Path

import onnx


def fix_dimensions(source: Path, target: Path, dimensions: Mapping[str, int]) -> None:
    """Write a copy of a file whose named dimensions have sizes.

    Args:
        source: With dimensions such as `height` and `2*height`.
        target: Where the copy goes.
        dimensions: A size for every name.

    Raises:
        ValueError: A name has no size.
    """
    model = onnx.load(source)
    # What was inferred with names would contradict the sizes.
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_value = _size(size.dim_param, dimensions, value.name)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, target)


def _size(label: str, dimensions: Mapping[str, int], value: str) -> int:
    multiple, _, name = label.rpartition("*")
    if name not in dimensions or not (multiple.isdigit() or not multiple):
        raise ValueError(f"{value} has a side named {label}; give a size for each of its names, got {dict(dimensions)}")
    return int(multiple or 1) * dimensions[name]
