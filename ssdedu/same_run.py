"""Whether a checkpoint belongs to the run that is to go on from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssdedu.checkpoints import CheckpointError
from ssdedu.settings import Settings, in_current_terms

__all__ = ["check_same_run"]


def check_same_run(
    path: Path,
    about: dict[str, Any],
    settings: Settings,
    network: dict[str, Any],
    classes: Sequence[str],
    data: dict[str, Any] | None = None,
) -> None:
    """Raises CheckpointError unless the run that a checkpoint's description is `about` may go on as this one.

    network: the fields of `priors.Config` and `base`. Settings that change no number (`Settings.deciding`) may
    differ.
    """
    _check_same(path, "settings", in_current_terms(about["settings"]), settings.deciding())
    _check_same(path, "classes", about["classes"], list(classes))
    saved = {**about["config"], "base": about["base"]}
    _check_same(path, "network", saved, json.loads(json.dumps(network)))
    trained_on = [(d or {}).get("trained_on") for d in (about.get("data"), data)]
    if trained_on[0] != trained_on[1]:
        there, here = (f"{len(ids or [])} images" for ids in trained_on)
        _refuse(path, "images to train on", f"{there} there, {here} here, not all the same")


def _check_same(path: Path, what: str, saved: Any, wanted: Any) -> None:
    if isinstance(wanted, dict):
        keys = [k for k in wanted if saved.get(k) != wanted[k]]
        detail = "; ".join(f"{k}: {saved.get(k)} there, {wanted[k]} here" for k in keys)
    else:
        detail = f"{saved} there" if saved != wanted else ""
    if detail:
        _refuse(path, what, detail)


def _refuse(path: Path, what: str, detail: str) -> None:
    raise CheckpointError(
        f"{path}: the run to resume has other {what} ({detail}); repeat the first command's options, "
        "or start anew in another folder"
    )
