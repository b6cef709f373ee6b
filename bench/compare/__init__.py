"""Measures cohab beside what else there is, in one run: scripts/compare --help."""
