"""What can be improved: body directories, their store, and the runtimes that run them."""
