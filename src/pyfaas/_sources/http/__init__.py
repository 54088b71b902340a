"""HTTP as a source: requests become events, results become responses."""
