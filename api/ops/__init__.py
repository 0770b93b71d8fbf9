"""What operators run: database, logs, metrics, accounts."""
