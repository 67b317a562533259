"""Fixtures that start JupyterLab and Chromium, and open notebooks in them.

A test module says `pytest_plugins = ["lab"]` and asks for the fixture `notebooks` (lab_page.py has the rest):

    explorer = notebooks.open("00_start_here").explorer("ScoreExplorer")
    explorer.slider("Show detections").press("ArrowRight")
    until(lambda: explorer.value("threshold"), 0.51)

JupyterLab serves a copy of the notebooks, with settings of its own. No name of another machine is resolved, so
that what asks for one fails here as it does offline.
"""

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from lab_page import ROOT, Notebook, until

_NEWS = "@jupyterlab/apputils-extension/notification.jupyterlab-settings"
_LAB_OPTIONS = (
    "--no-browser",
    "--ServerApp.port_retries=0",
    "--ServerApp.jpserver_extensions={'jupyterlab': True, 'jupyter_lsp': True}",
    "--IdentityProvider.token=",
    "--LabApp.expose_app_in_browser=True",
    "--LabApp.extension_manager=readonly",
)
_CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)


class Notebooks:
    """Opens notebooks one at a time, each run once for the tests that follow each other."""

    def __init__(self, browser, address):
        self.browser, self.address, self.current = browser, address, None

    def open(self, name):
        """The notebook, all of its cells run."""
        if self.current is None or self.current.name != name or not self.current.has_run:
            self.close()
            self.current = Notebook(self.browser, self.address, name)
            self.current.run_all()
        return self.current

    def close(self):
        """Leave the notebook that is open."""
        if self.current is not None:
            self.current.close()
        self.current = None


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _environment(folder):
    """This environment with none of the reader's own Jupyter settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "PYTEST_", "COV_"))}
    private = {"JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR"}
    private |= {"JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR"}
    own = {name: str(folder / name.lower()) for name in private}
    return {**kept, **own, "JUPYTER_NO_CONFIG": "1", "OMP_NUM_THREADS": "1"}


def _copy_notebooks(folder):
    folder.mkdir()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(path, folder)
    return folder


def _answers(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/api/status")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def serving(folder):
    """The address of a JupyterLab that serves a copy of the notebooks; all that is its own lies in folder."""
    environment, port = _environment(folder), _free_port()
    news = Path(environment["JUPYTERLAB_SETTINGS_DIR"]) / _NEWS
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    options = [*_LAB_OPTIONS, f"--ServerApp.port={port}"]
    options += [f"--ServerApp.root_dir={_copy_notebooks(folder / 'notebooks')}"]
    options += ["--allow-root"] * (getattr(os, "getuid", lambda: 1)() == 0)
    command, log = [sys.executable, "-m", "jupyterlab", *options], folder / "log.txt"
    with (
        log.open("w") as file,
        subprocess.Popen(command, env=environment, stdout=file, stderr=file) as server,
    ):
        try:
            until(lambda: _answers(port) or server.poll() is not None, True, seconds=60)
            assert server.poll() is None, log.read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def chromium_path():
    """Chromium or Chrome in PATH, or None."""
    paths = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    return next(filter(None, paths), None)


@contextlib.contextmanager
def browsing(path):
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=_CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """The address of a JupyterLab that serves a copy of the notebooks."""
    pytest.importorskip("jupyterlab")
    with serving(tmp_path_factory.mktemp("lab")) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium; closed with the module, since its event loop is in the way of asyncio elsewhere."""
    pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
    if (path := chromium_path()) is None:
        pytest.skip("needs Chromium or Chrome in PATH")
    with browsing(path) as browser:
        yield browser


@pytest.fixture(scope="module")
def notebooks(chromium, lab):
    """Opens notebooks in JupyterLab."""
    opened = Notebooks(chromium, lab)
    yield opened
    opened.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Keep what a failing test saw, if the page still lives."""
    report = yield
    opened = getattr(item, "funcargs", {}).get("notebooks")
    if report.failed and isinstance(opened, Notebooks) and opened.current:
        with contextlib.suppress(Exception):
            opened.current.screenshot(f"failed_{item.name}")
    return report
