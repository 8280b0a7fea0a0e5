"""Interfaces of others over fastnn's operators, for code that is written against them; each is imported by its name."""
