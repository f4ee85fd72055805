"""`python -m voice_analytics_client`: the command, where its script isn't on the path."""

from voice_analytics_client.cli.main import main

main()
