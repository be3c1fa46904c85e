"""Speed of Millrace beside what a team would use otherwise, measured in one run on one machine.

``make bench`` installs the others and runs ``python -m benchmarks``; ``--only w1,http`` chooses cases, ``--quick``
shows in two minutes that everything works. ``cases`` says what is compared and what is promised, ``harness`` how runs
alternate and ratios are formed, ``peers`` are the others' programs, ``sides`` are Millrace's, ``load`` is the HTTP
load generator of both.
"""
