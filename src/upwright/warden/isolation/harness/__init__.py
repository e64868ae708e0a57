"""How an evaluator's files are run inside its cell: one module for each form of evaluator.

A harness is a module with ``run(job, program_path, workdir)``. It runs in the evaluator's cell, in a fresh process, and returns data that JSON
can hold (numpy's numbers and arrays become plain ones; NaN and infinities pass). ``job`` is what :meth:`Pool.run` was given, with two keys more:
``folder``, where the evaluator's files lie (read-only), and ``seed``. ``program_path`` is the file that stands for the candidate: a
stub that asks the candidate's cell, or the candidate's own file in a pool that has them together. With ``job["source"]`` true, the text of the
candidate's files lies in ``source/`` beside the stub, to be read. ``workdir`` is an empty private folder, and the
current one. An exception that leaves ``run`` ends the run as a crash with that exception's last line.

A cell has this package's modules and nothing else of Upwright's; a harness imports its neighbours relatively.
"""
