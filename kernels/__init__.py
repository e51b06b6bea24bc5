"""Array kernels: tiles, blending, optical flow, warp, colour, the audio ring. They import nothing of Relume."""
