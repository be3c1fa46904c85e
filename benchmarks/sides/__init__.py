"""Millrace's side of each case, written with its public names as a user would, and the drivers of whole servers."""
