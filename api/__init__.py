"""The doors of the service: HTTP and the command line."""
