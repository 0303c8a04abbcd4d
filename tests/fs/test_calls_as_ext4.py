"""Call by call the mount answers as plain ext4 does, and the copy follows."""

from pathlib import Path

import pytest
from tests.fs import cases_callers, cases_names, cases_objects, transcript
from tests.fs.served import ServedDirectory, differences_of_state

CASES = [*cases_names.CASES, *cases_objects.CASES, *cases_callers.CASES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_every_call_is_answered_as_on_ext4(
    served: ServedDirectory, ground: Path, case: transcript.Case
) -> None:
    native = ground / "native"
    native.mkdir(mode=0o755)
    expected = transcript.run(case, native)
    seen = transcript.run(case, served.path)
    assert seen == expected
    served.assert_settled_and_equal()
    served.stop()
    differences = differences_of_state(native, served.path)
    assert not differences, differences
