"""FP32 to FP16 with float32 exclusions."""
