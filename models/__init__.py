"""The networks in PyTorch, each with its paper."""
