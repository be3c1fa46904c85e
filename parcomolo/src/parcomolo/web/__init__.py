"""The HTTP side: what every context's routes are written with, the pages for people, and the probes for machines."""
