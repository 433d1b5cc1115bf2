import pytest

from zeroseg.errors import UnavailableError
from zeroseg.runtime.rtx_library import load_rtx


@pytest.fixture(scope="session")
def rtx():
    """The real TensorRT for RTX; tests that need it are skipped where it cannot be had."""
    try:
        return load_rtx("this test")
    except UnavailableError as error:
        pytest.skip(str(error))
