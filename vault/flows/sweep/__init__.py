"""The state audit: everything stored of everybody against itself, against the log, the journal, and what was seen before.

It finds what no single read can: rows put back together, from one old copy. `audit` runs it whole, `duty` for ever and gently.
"""
