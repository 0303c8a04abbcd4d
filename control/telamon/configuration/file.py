"""Reading a configuration file's text."""

from pathlib import Path

from telamon.configuration.document import MAXIMUM_CHARACTERS
from telamon.errors import InvalidError, NotFoundError

UTF8_BYTES = 4


def read_text(path: Path, cure: str) -> str:
    """The text of `path`; `cure` says what to do when there is no such file."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAXIMUM_CHARACTERS * UTF8_BYTES + 1)
        return raw.decode()
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} does not exist: {cure}") from error
    except UnicodeDecodeError as error:
        raise InvalidError(
            f"{path} is not UTF-8 at byte {error.start}: write such paths as !!binary"
        ) from error
    except OSError as error:
        raise InvalidError(
            f"{path} could not be read: {error.strerror}; correct it or its permissions"
        ) from error
