"""Runs the page's side of a widget in Node.js, as the bundle that ships."""

import json
import shutil
import subprocess

import pytest

from ssdedu.widgets.base import bundle

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js to run the page's side")


def run_node(tmp_path, module, expression, data=None):
    """The value of a JavaScript expression that sees the module's exports as `m` and the data as `data`."""
    (tmp_path / "widget.mjs").write_text(bundle(module))
    (tmp_path / "data.json").write_text(json.dumps(data))
    (tmp_path / "run.mjs").write_text(
        'import { readFileSync } from "node:fs";\n'
        'import * as m from "./widget.mjs";\n'
        'const data = JSON.parse(readFileSync(new URL("./data.json", import.meta.url)));\n'
        f"process.stdout.write(JSON.stringify({expression}));\n"
    )
    done = subprocess.run(["node", tmp_path / "run.mjs"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
