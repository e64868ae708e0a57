"""What evaluators import of ShinkaEvolve: :mod:`shinka.core`."""
