"""What the notebooks share: figures with facts, predict-then-reveal, exercises with checks and hints."""

from __future__ import annotations

from ssdedu.course.display import show
from ssdedu.course.exercise import check, hint, solution, solution_text
from ssdedu.course.predictions import predict, reveal

__all__ = ["check", "hint", "predict", "reveal", "show", "solution", "solution_text"]
