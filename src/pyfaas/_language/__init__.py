"""What rules, schedules and routes are written in: pure, used where they are declared and where they run."""
