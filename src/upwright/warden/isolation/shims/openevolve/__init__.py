"""What evaluators import of OpenEvolve: :mod:`openevolve.evaluation_result`."""
