"""Write the sample clip: `python -m runtime.sample FILE.mp4`."""

import sys
from pathlib import Path

from runtime.sample.clip import write_clip

if len(sys.argv) != 2:
    sys.exit("usage: python -m runtime.sample FILE.mp4")
write_clip(Path(sys.argv[1]))
