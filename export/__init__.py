"""PyTorch to ONNX and a manifest, with parity checked."""

import os

# torch.onnx and onnxscript import ONNX Runtime by themselves; see `load_onnxruntime`.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
