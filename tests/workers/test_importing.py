"""The garbage collector waits for imports."""

import gc

import pytest

from scar_ray.workers.environment import importing


def test_the_collector_waits_for_imports_and_never_looks_at_what_they_made() -> None:
    with importing():
        assert not gc.isenabled()
        module = [{"a": []}]
    assert gc.isenabled()
    assert not any(one is module for one in gc.get_objects())
    gc.unfreeze()
    assert any(one is module for one in gc.get_objects())
    gc.freeze()


def test_it_works_again_after_an_import_that_failed() -> None:
    with pytest.raises(ImportError), importing():
        import no_such_module  # noqa: F401
    assert gc.isenabled()
