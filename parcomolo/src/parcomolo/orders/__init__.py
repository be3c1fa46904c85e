"""Orders: takes orders, follows what the others say about them, and is the only one who says how an order ends."""
