"""The engines that were built on this box: asked for, built by a process of their own, proven, kept, checked at use."""
