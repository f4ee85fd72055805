"""How right a running service is on labelled recordings: words, speakers, times, emotions."""
