"""
What pyfaas promises, measured beside every pool that one would take instead: ``python -m benchmarks --help``.

    __main__ ──► warm, starts, streams, crowd, rest, large    one theme each: gives Promises, prints what it saw
                   └──► stage ──► peers, loops                each contender in a process of its own, waiting its turn
             ──► report                                       docs/reference/promises.md and its plot
"""
