"""What the contexts of Parcomolo say to each other: the public messages, one file per context.

Only values live here: no rule, no state, no wiring. A context imports the contracts of others and never their inside.
"""
