"""Load tests of cohab: a scenario file in; figures, pictures and a report out. docs/loadtest.md tells how."""
