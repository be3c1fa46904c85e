"""What Millrace is measured against: a hand-written loop doing the same durable work, and what a team would pick today."""
