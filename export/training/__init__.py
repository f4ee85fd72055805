"""Recipes that train the bundled checkpoints from open recordings of real people.

Needs torch and, for synthetic voices, the ``espeak-ng`` program; nothing here is imported when
serving.
"""
