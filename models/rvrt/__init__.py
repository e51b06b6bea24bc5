"""Residual RVRT: the Recurrent Video Restoration Transformer with a residual block before its upsampler.

"Recurrent Video Restoration Transformer with Guided Deformable Attention", Liang et al. (arXiv 2206.02146), written
from the paper. A clip of frames goes in, the restored clip comes out: `network` is the whole network, `attention` the
window attention inside a clip, `alignment` the deformable attention from clip to clip, `blocks` the layers before and
after, `configs` the published sizes and ours.
"""

from models.rvrt.configs import RVRT_CONFIGS, RvrtConfig
from models.rvrt.network import Rvrt

__all__ = ["RVRT_CONFIGS", "Rvrt", "RvrtConfig"]
