"""FP32 to INT8 by Q/DQ: activation ranges, layers, the graph and the gates."""
