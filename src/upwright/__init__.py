"""Upwright: AI that rebuilds itself, and proves that it got better."""
