"""How fast a running service is: load, measurements around it, and the report."""
