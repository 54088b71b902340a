"""From an event to its outcome: one call, and a stream of them."""
