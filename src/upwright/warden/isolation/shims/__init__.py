"""Modules under the names that other systems' evaluators import, so that those run unmodified in a cell. Our own words; a small part of each."""
