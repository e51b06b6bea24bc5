"""What kinds of engine there are: whose builder made one, and whose runtime opens it."""

from enum import StrEnum
from typing import Literal


class Flavour(StrEnum):
    """Whose engine: TensorRT for RTX, TensorRT, or OpenVINO."""

    RTX = "rtx"
    TENSORRT = "tensorrt"
    OPENVINO = "openvino"


Int8Form = Literal["cpu", "tensorrt"]
"""Of a Q/DQ file: unsigned with a zero point, or signed without one, which is all that TensorRT takes."""


def int8_form(flavour: Flavour | None) -> Int8Form:
    """Give the form of INT8 files that engines of a flavour are made of; None is a backend without engines."""
    return "tensorrt" if flavour in (Flavour.TENSORRT, Flavour.RTX) else "cpu"
