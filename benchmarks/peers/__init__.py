"""Peers, each run by its own Python on what ``benchmarks/programs.py`` gives: ``with_NAME.py URL FOLDER SCRATCH CANDIDATES``."""
