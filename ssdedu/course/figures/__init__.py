"""Figures of the notebooks: one module for each, and `common` for what they share."""
