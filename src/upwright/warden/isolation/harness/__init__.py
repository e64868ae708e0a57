"""What runs in the evaluator's cell: one module for each kind of evaluator.

A harness has one function::

    run(job, *, folder, program, scratch, seed) -> JSON data

``job`` is what :class:`upwright.warden.evaluator.Judge` sends; ``folder`` is where the evaluator's files are (read-only),
``program`` the folder in which the file that the job names lies (the generated stub, or the candidate's own files), ``scratch`` a folder
that may be written, ``seed`` the run's. What it returns is described in :mod:`upwright.warden.isolation.harness.results`. It
raises what the evaluator raises: that is a run that ended in a crash.

The working directory is ``scratch`` when it is called, and ``random`` and ``numpy.random`` are seeded. Standard library only (numpy where the
evaluator has loaded it): what a harness imports, every cell imports.
"""
