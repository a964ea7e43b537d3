"""A real browser for tests of the page."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DRIVER = Path(__file__).parents[3] / "benchmarks" / "chromium.py"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A tab of headless Chromium (benchmarks/chromium.py), for all tests of a process."""
    spec = importlib.util.spec_from_file_location("chromium", DRIVER)
    assert spec is not None
    assert spec.loader is not None
    driver = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(driver)
    if driver.CHROMIUM is None:
        pytest.skip("no chromium is installed")
    with driver.chromium() as tab:
        yield tab


@pytest.fixture
def tab(browser: Any) -> Any:
    """The tab, in a window of a desktop's size, with no complaints from before."""
    browser.complaints.clear()
    browser.window(900, 520)
    return browser
