"""What kinds of engine there are: whose builder made one, and whose runtime opens it."""

from enum import StrEnum


class Flavour(StrEnum):
    """Whose engine: TensorRT for RTX, TensorRT, or OpenVINO."""

    RTX = "rtx"
    TENSORRT = "tensorrt"
    OPENVINO = "openvino"
