"""What a model consists of: found by running it once, and watching."""

from fastnn.inspection.table import Row, Summary, summary

__all__ = ["Row", "Summary", "summary"]
