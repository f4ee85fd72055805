"""Rollouts of model versions: what operators ask for, and how it is carried out."""
