"""Every error nasplat raises on purpose; all derive from `NasplatError`.

A message says what was expected, what came, and what to do. The second base (ValueError, LookupError …) lets callers
catch an error without knowing nasplat.
"""

from __future__ import annotations

import errno


class NasplatError(Exception):
    """Base of every error that nasplat raises on purpose; catching it catches all of them.

    It is never raised itself. Its base is Exception.
    """


class InputError(NasplatError, ValueError):
    """Raised when what the caller passed names no network, task or option, or is of a kind that the call cannot use.

    `nasplat.capture("resnet")`, for instance, names no file, no space and no `timm:` model. It is a NasplatError and a
    ValueError.
    """


class ContentError(NasplatError, LookupError):
    """Raised when a space, predictor or table is not found by its name or path, or its file is broken.

    The message lists the known names. It is a NasplatError and a LookupError.
    """


class SpaceError(NasplatError, ValueError):
    """Raised when a search space breaks the rules of `pick`, or an architecture does not belong to its space.

    A choice outside the options and a `pick` after the first module are two cases. It is a NasplatError and a
    ValueError.
    """


class TrustError(NasplatError, PermissionError):
    """Raised when data, such as a table or a run folder, names a Python file that the caller neither loaded nor trusts.

    Nothing of the file has run. It is a NasplatError and a PermissionError.
    """


class BuildError(SpaceError):
    """Raised when the build function of a space raises by itself, before it has constructed a module.

    A preset that it cannot use is the usual cause. A search takes a network whose choices cause it for a failed one.
    It is a SpaceError.
    """


class CaptureError(NasplatError, RuntimeError):
    """Raised when a module cannot be run on its example input, or an ONNX file cannot be read as a graph.

    An example input of the wrong shape is the usual cause. It is a NasplatError and a RuntimeError.
    """


class GraphError(NasplatError, ValueError):
    """Raised when a graph's columns contradict each other, or a file or text holds no graph.

    An edge from a later to an earlier node is one case. It is a NasplatError and a ValueError.
    """


class TableError(NasplatError, ValueError):
    """Raised when a table lacks a column, a row or a label, or does not agree with another table or space.

    It is a NasplatError and a ValueError.
    """


class ShapeError(NasplatError, ValueError):
    """Raised when arrays that belong together differ in length, or are too small to compute with.

    It is a NasplatError and a ValueError.
    """


class PredictorError(NasplatError, ValueError):
    """Raised when a predictor is not fitted, or its folder is incomplete, altered or of another version.

    It is a NasplatError and a ValueError.
    """


class TaskError(NasplatError, ValueError):
    """Raised when the data, loss and metric of a task do not fit together, or its files cannot be read.

    It is a NasplatError and a ValueError.
    """


class SupernetError(NasplatError, ValueError):
    """Raised when a space cannot share weights as asked, or a checkpoint does not belong to the supernet.

    It is a NasplatError and a ValueError.
    """


class LabelWarning(UserWarning):
    """Shown when labels that are not finite were left out; the message says how many of how many.

    A training that failed leaves such labels behind. It is a UserWarning, not a NasplatError.
    """


class SpaceWarning(UserWarning):
    """Warned when the code of a space has changed and its networks have not, so that a study or a supernet goes on.

    Its base is UserWarning, so that `warnings.filterwarnings` can silence it or turn it into an error.
    """


class SupernetWarning(UserWarning):
    """Warned when a supernet's training looks wrong but can go on.

    Its base is UserWarning, so that `warnings.filterwarnings` can silence it or turn it into an error.
    """


class SearchError(NasplatError, ValueError):
    """Raised when objectives, limits and storage of a search contradict each other, or a limit cannot be met.

    It is a NasplatError and a ValueError.
    """


class EditError(NasplatError, ValueError):
    """Raised when a network cannot be edited, or an edit of it makes no network that can be built.

    It is a NasplatError and a ValueError.
    """


class ExportError(NasplatError, RuntimeError):
    """Raised when the exported file does not compute what the module computes; no file is written then.

    It is a NasplatError and a RuntimeError.
    """


class MissingExtraError(NasplatError, ImportError):
    """Raised when a feature needs an optional dependency that cannot be imported; the message names the extra.

    It is a NasplatError and an ImportError.
    """


class StorageError(NasplatError, OSError):
    """Raised when a file cannot be written: the disk is full, a quota is used up, or it may not be written there.

    What was there before is untouched. It is a NasplatError and an OSError.
    """

    @staticmethod
    def of(path: str, error: OSError) -> StorageError:
        """Say in one paragraph why a file cannot be written.

        Args:
            path: File that was to be written.
            error: What the operating system said.

        Returns:
            The error to raise.
        """
        is_full = error.errno in {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
        advice = "Free some space" if is_full else "Choose a place that can be written"
        return StorageError(
            f"expected to write {path!r}, got: {error.strerror or error}.\n"
            f"  {advice} and run the same command again; what was there before is kept."
        )
