"""Interactive explorers for the notebooks; each works on a page without a kernel too."""

from __future__ import annotations

from ssdedu.widgets.score_explorer import ScoreExplorer

__all__ = ["ScoreExplorer"]
