"""Array kernels: tiles, blending, optical flow, warp, colour, measures, the audio ring; nothing of Relume."""
