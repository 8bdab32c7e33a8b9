"""Run folders (design §7): the names in them, what a run records, claiming and locking one, and finding one again."""
