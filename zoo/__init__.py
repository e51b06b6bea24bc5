"""The shipped models: one folder each, ONNX files and a manifest."""
