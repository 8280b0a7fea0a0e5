"""What a model consists of, and what is unusual about it: found by running it once, and watching."""

from fastnn.inspection.guidelines import Finding, Findings, lint
from fastnn.inspection.table import Row, Summary, summary

__all__ = ["Finding", "Findings", "Row", "Summary", "lint", "summary"]
