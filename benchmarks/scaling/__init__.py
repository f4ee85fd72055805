"""What so many hours of audio need, and how many replicas the autoscaler makes of a load."""
