"""An agent of one's own as the hands: it reads what is weak, proposes a change, and learns what became of it.

=====================  ============================================================================
:mod:`.outlook`        what it may see (``upwright ask``)
:mod:`.change`         what it proposes: checked against what is in scope, or refused with every reason
:mod:`.lever`          ``told``, the lever that builds a child from it
:mod:`.hearing`        one round of the loop for it (``upwright tell``)
:mod:`.fates`          what became of it, and of what others proposed before
:mod:`.server`         the same as tools of a Model Context Protocol server (``upwright mcp``)
:mod:`.guide`          the instructions file that such agents read
=====================  ============================================================================

It sees practice alone. It never gets sealed tasks, a grader's code, keys, or what the warden saw but its word; and it
has no right to promote: the gate decides, and where the charter says so a person agrees.
"""
