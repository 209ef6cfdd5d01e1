"""Bugs made on purpose, to see that the tests find them (``make mutants``)."""
