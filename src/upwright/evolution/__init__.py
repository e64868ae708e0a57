"""Search over programs: an archive, proposers, edits, and the campaign that brings them together.

Everything here is practice. A campaign finds a candidate that looks better; whether it is, the warden says.
"""
