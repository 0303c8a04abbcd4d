"""A network namespace of the test's own, as the tests of addresses have it."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "net_conftest", Path(__file__).parents[1] / "net" / "conftest.py"
)
assert _spec is not None and _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

network_namespace = _module.network_namespace
