"""What an operator sees and does: status, results, retries, checks."""
