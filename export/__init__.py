"""PyTorch to ONNX and a manifest, with parity checked."""
