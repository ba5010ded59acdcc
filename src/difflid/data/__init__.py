"""Photographs, pairs and synthetic haze."""
