"""Shipped for plug-in authors: conformance suites and fakes."""
