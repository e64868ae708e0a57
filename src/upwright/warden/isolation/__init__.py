"""Foreign code in isolation: evaluator and candidate in separate cells, warm, limited, killed on time.

::

    from upwright.warden.isolation import Limits, Pool

    job = {"entry": "evaluator.py", "function": "evaluate", "program": "program.py"}
    with Pool(folder, "plain", ["numpy"], Limits(seconds=30)) as pool:
        ran = pool.run(job, {"program.py": text}, seed=1)     # Ran(ending, value, why, output, seconds, alarms)

A *cell* is a wall with a zygote in it: bubblewrap where a probe shows that it holds, else Landlock with seccomp, else :class:`IsolationError`
(or, with a signed waiver, no wall). The zygote has imported what runs need and forks one process for each run, which takes mount, process and
IPC spaces of its own, gives up every right, and only then reads foreign code (:mod:`~upwright.warden.isolation.cell`).

Apart (the default), the candidate's files are in its own cell only. In the evaluator's lies a stub that sends calls over a Unix socket and gets
data back (:mod:`~upwright.warden.isolation.proxy`, :mod:`~upwright.warden.isolation.wire`): nothing that the candidate wrote is imported, unpickled or
compared by a method of its own, and the evaluator's value leaves by a descriptor that the candidate's cell never has. Together, both are in one
process, where a program can do whatever it likes to its evaluator; only the machine is kept from it.

What a run has: no network, no variables but those of :func:`~upwright.warden.isolation.layout.environment`, Python and its packages and (the evaluator) its
folder to read, an empty folder to write, an end in wall clock, processor time, memory, processes and files. At its end every process is killed.

What a cell does **not** stop:

* *A flaw in the kernel.* It is one kernel for all; walls are namespaces, Landlock and seccomp, not a machine of its own. System calls that honest
  programs do not need are refused, hundreds remain.
* *Measuring through hardware*: caches, timing, how busy the cores are. Two cells can tell each other things this way, slowly.
* *Using what is allowed*: all of its time, memory and cores. There is no limit on memory bandwidth, caches or disk reads; a run that is timed for
  its score is disturbed by what else runs.
* *Guessing.* A program that knows the evaluator (its code is public) can return what scores best without solving anything, if the evaluator can be
  satisfied so. Nor does a cell stop a program that recognises the question: an evaluator has to draw questions from its seed.
* *Data meant to hurt.* What crosses is bounded and plain, but the evaluator's own code reads it: an evaluator that evaluates text, opens paths that it is
  given, or takes NaN for a good score is cheated through its own hole. Large data cost its memory and time, which count as the run's.
* *Reading Python's folders*: whatever lies in the virtual environment or below ``/usr`` can be read by every run. Keep no secrets there.
* *Knowing the machine*: its processor, kernel version, load and clock can be read (with Landlock, also whether a process number is in use).
* *Telling alarms from honest acts.* An alarm is a sentence for people. The tripwire in the candidate's process can be avoided by code that sets out to; the
  watch over planted files cannot, but a variable that is read and used in silence is not seen.
* *Together:* lying to the evaluator in any way, its return value included. ``Ran.value`` is then the program's word.
* *With Landlock instead of bubblewrap:* ``/tmp`` is not private (it cannot be written, ``TMPDIR`` can); as root the cell's processes are root's without rights.
* *With a waiver:* whatever the pool's own user may do.
* *The operator's own code*: the evaluator, the modules named in ``imports`` and the packages beside Upwright are trusted.

There is no GPU in a cell.
"""

from upwright.warden.isolation.errors import IsolationError
from upwright.warden.isolation.pool import Pool
from upwright.warden.isolation.records import Ending, Limits, Ran
from upwright.warden.isolation.walls import Wall, strongest_wall

__all__ = ["Ending", "IsolationError", "Limits", "Pool", "Ran", "Wall", "strongest_wall"]
