"""Ways to come by a next program, one file each."""
