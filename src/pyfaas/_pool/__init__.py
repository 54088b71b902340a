"""Which sandbox gets the invocation: a pure ledger, the pool that carries out what it says, the watch over time."""
