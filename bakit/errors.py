"""Every error that bakit raises on purpose.

* BakitError                    exit status 2 on the command line
  + InputError                  a file, an option or a value is wrong
    - ImageError                an image that cannot be read or used
    - LabelsError               a data folder whose labels cannot be used
  + CheckpointError             a float checkpoint is damaged or not ours
  + BundleError                 a bundle is damaged, unknown or was changed
  + UnsupportedTargetError      the target is unknown, or cannot do what was asked
  + VerificationError           exported numbers differ from the float model's; status 1
  + MissingBackendError         a library is not installed; status 3
    - MissingProgramError       a program, or what no pip install brings

Catch ``BakitError`` to catch them all. Every message says what would be right.
"""


class BakitError(Exception):
    """Base class of the errors that a caller may want to catch.

    Attributes:
        exit_status: What the command line exits with.
    """

    exit_status = 2


class InputError(BakitError):
    """A file, an option or a value is wrong."""


class ImageError(InputError):
    """An image cannot be read or cannot be used."""


class LabelsError(InputError):
    """A data folder's labels cannot be used."""


class CheckpointError(BakitError):
    """A float checkpoint is damaged or was not written by bakit."""


class BundleError(BakitError):
    """A bundle is damaged, was changed, or is from another version."""


class UnsupportedTargetError(BakitError):
    """The target is unknown, or cannot do what was asked."""


class VerificationError(BakitError):
    """An exported model does not reproduce the float model."""

    exit_status = 1


class MissingBackendError(BakitError):
    """A library that is needed here is not installed."""

    exit_status = 3

    def __init__(self, need: str, extra: str) -> None:
        super().__init__(f"{need} needs: pip install 'bakit[{extra}]'")


class MissingProgramError(MissingBackendError):
    """A program, or files that no ``pip install`` brings, are needed here."""

    def __init__(self, need: str, command: str) -> None:
        BakitError.__init__(self, f"{need}: {command}")


def first_line(error: BaseException) -> str:
    """Return the first line of an error of another library, its type if it has no message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
