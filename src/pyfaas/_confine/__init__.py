"""What a sandbox may touch: a pure plan, and the hands that carry it out inside the child."""
