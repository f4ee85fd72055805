"""Mixed load for an hour while processes are killed: is anything lost, different, or growing?"""
