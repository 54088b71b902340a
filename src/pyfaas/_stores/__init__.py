"""What survives: one SQLite file, one thread that writes to it, a leased queue and a log in it."""
