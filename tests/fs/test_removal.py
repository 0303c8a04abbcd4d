"""Names that go while content of their files is still on its way to the copy."""

import os

import pytest
from tests.fs.served import ServedDirectory

ROUNDS = 30
FILE_BYTES = 8 << 20


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["unlink", "rename"])
def test_a_file_loses_its_last_name_while_its_content_is_shipped(
    served: ServedDirectory, how: str
) -> None:
    """What stands in the journal between the end of a name and that of its file does no harm."""
    doomed, other = served.path / "doomed", served.path / "other"
    content = os.urandom(FILE_BYTES)
    for _ in range(ROUNDS):
        with doomed.open("wb", buffering=0) as file:
            for _ in range(2):
                file.write(content)
            if how == "unlink":
                doomed.unlink()
            else:
                other.write_bytes(b"replaced")
                other.rename(doomed)
            file.write(content)
    served.assert_settled_and_equal()
