"""What becomes of an object that was received."""
