"""Long recordings, analysed while nobody waits: accepted once, ended exactly once."""
