"""Reports: what was sold, and how orders ended; both can be rebuilt from the facts."""
