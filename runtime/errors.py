"""Errors of the runtime; each message says what was given, what was expected and what to do.

RelumeError
├── MediaError
│   ├── DecodeError            the source cannot be read (also an OSError)
│   │   └── DamagedError       parts of it can, but not all of it
│   ├── EncodeError            the result cannot be written (also an OSError)
│   └── UnsupportedMediaError  readable, but not something Relume enhances (also a ValueError)
├── EngineError
│   ├── ManifestError          a model's manifest or file is missing, broken or altered (also a ValueError)
│   ├── EngineStoreError       an engine cannot be built, validated or stored (also a RuntimeError)
│   └── SessionError           a backend cannot open or run a model (also a RuntimeError)
│       └── OpenError          it cannot open a model; another backend may take its place
├── OptionError                an option or a combination of options is refused (also a ValueError)
├── OutputError                the place of the result is refused or taken (also an OSError)
├── ReportError                a text is no report (also a ValueError); in `runtime.report`
├── VerificationError          the finished file does not hold what was written into it; in `runtime.report`
└── CancelledError             the job was stopped on request
"""


class RelumeError(Exception):
    """Root of every error that the runtime raises."""


class MediaError(RelumeError):
    """A media file, read or written."""


class DecodeError(MediaError, OSError):
    """The source cannot be read."""


class DamagedError(DecodeError):
    """The source is damaged or truncated; the readable part is enhanced if the options allow it."""


class EncodeError(MediaError, OSError):
    """The result cannot be written."""


class UnsupportedMediaError(MediaError, ValueError):
    """The source is readable, but not something that Relume enhances."""


class EngineError(RelumeError):
    """A model or the backend that runs it."""


class ManifestError(EngineError, ValueError):
    """A model's manifest or file is missing, broken or altered."""


class EngineStoreError(EngineError, RuntimeError):
    """An engine cannot be built, validated or stored."""


class SessionError(EngineError, RuntimeError):
    """A backend cannot open or run a model."""


class OpenError(SessionError):
    """The chosen backend cannot open a model; nothing was run yet, so another one may take its place.

    `waits`: only an engine is missing, which was requested and may be there the next time.
    """

    def __init__(self, message: str, *, model: str, backend: str, waits: bool = False) -> None:
        super().__init__(message)
        self.model, self.backend, self.waits = model, backend, waits


class OptionError(RelumeError, ValueError):
    """An option or a combination of options is refused."""


class OutputError(RelumeError, OSError):
    """The place of the result is refused or taken."""


class CancelledError(RelumeError):
    """The job was stopped on request."""
