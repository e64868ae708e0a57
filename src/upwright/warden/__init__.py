"""THE FIXED KERNEL: sealed tasks, gate, ledger and champion pointer, in a process of its own."""
