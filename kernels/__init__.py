"""Fast work on arrays: tiles, blending, flow, warp, colour, the audio ring. Imports nothing of ours."""
