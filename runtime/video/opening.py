"""The choice of what runs a model over a clip: the roles of its files say it."""

from runtime.engine.session import OpenSession
from runtime.manifest import Model
from runtime.video.canvas import Canvas
from runtime.video.chain import ChainStep
from runtime.video.clip import ClipStep
from runtime.video.step import Step
from runtime.video.tiling import TiledStep


def open_step(model: Model, open_session: OpenSession, canvas: Canvas, *, strength: float) -> Step:
    """Open what runs a model.

    Raises:
        ManifestError: The model is not a video model, or its files do not fit what its manifest says.
        SessionError: The engine cannot be opened.
    """
    roles = {file.role for file in model.manifest.files}
    if "window" in roles:
        return ClipStep(model, open_session, canvas, strength=strength)
    if "backward" in roles:
        return ChainStep(model, open_session, canvas, strength=strength)
    return TiledStep(model, open_session, canvas, strength=strength)
