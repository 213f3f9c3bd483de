"""Every exception threecad raises on purpose.

    ThreecadError
    ├── DataError            the data on disk are not what they should be
    │   ├── LayoutError      a tree, folder or file name
    │   ├── ImageError       an image that cannot be decoded
    │   │   └── ImageSizeError  … since its header declares too many pixels
    │   └── MaskError        a mask that cannot be decoded or does not fit its image
    ├── DownloadError        a transfer that failed
    │   └── TransferInterrupted  … for a reason that may pass
    ├── ExtractionError      an archive that is broken or unsafe
    ├── ConversionError      a format that cannot be read or written
    ├── EvaluationError      predictions that cannot be scored
    ├── ModelError           a model, checkpoint or configuration that cannot be used
    ├── BusyError            a folder that another process is writing
    ├── WorkerError          a worker process that was killed
    └── UsageError           arguments that make no sense together

The message is written for the person at the terminal: the file or value at fault, what was
expected, and what to do next. The command line prints it without a traceback.

A message, and the advice of a finding, names parameters between backquotes, as Python writes
them: "Choose another `root`, or replace it with `force=True`." The command line puts its flags in
their place (``threecad.cli.group.name_flags``); a message that gives a whole command to type puts
it between backquotes, too: "`threecad verify --deep`".
"""

from __future__ import annotations

__all__ = [
    "BusyError",
    "ConversionError",
    "DataError",
    "DownloadError",
    "EvaluationError",
    "ExtractionError",
    "ImageError",
    "ImageSizeError",
    "LayoutError",
    "MaskError",
    "ModelError",
    "ThreecadError",
    "TransferInterrupted",
    "UsageError",
    "WorkerError",
]


class ThreecadError(Exception):
    """Base of all exceptions raised on purpose by threecad and cfrg."""


class DataError(ThreecadError):
    """The data on disk are not what they should be."""


class LayoutError(DataError):
    """A tree, folder or file name is not what the 3CAD layout asks for."""


class ImageError(DataError):
    """An image cannot be decoded.

    Args:
        message: What happened.
        reason: What is wrong with the file, in one clause that does not name it.
    """

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


class ImageSizeError(ImageError):
    """The header of an image declares more pixels than are decoded."""


class MaskError(DataError):
    """A mask cannot be decoded, or does not fit its image."""


class DownloadError(ThreecadError):
    """A transfer failed."""


class TransferInterrupted(DownloadError):  # noqa: N818  (an interruption is not yet an error)
    """A transfer failed for a reason that may pass: trying again is sensible.

    Args:
        message: What happened.
        wait: Seconds the server asks to wait before the next attempt.
    """

    def __init__(self, message: str, *, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


class ExtractionError(ThreecadError):
    """An archive is broken or unsafe."""


class ConversionError(ThreecadError):
    """A format cannot be read or written."""


class EvaluationError(ThreecadError):
    """Predictions cannot be scored."""


class ModelError(ThreecadError):
    """A model, checkpoint or configuration cannot be used."""


class BusyError(ThreecadError):
    """Another process is writing the same folder."""


class WorkerError(ThreecadError):
    """A worker process was killed."""


class UsageError(ThreecadError, ValueError):
    """Arguments are wrong, or make no sense together."""
