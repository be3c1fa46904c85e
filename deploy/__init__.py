"""What runs beside the toolkit: servers for development and tests."""
