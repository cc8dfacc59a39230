"""What an administrator sets, and where each value comes from."""
