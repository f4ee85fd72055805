"""Conversations that never took place, put together from takes of single speakers.

What was said by whom, when and how is then known to the sample, which no annotator can offer.
"""
