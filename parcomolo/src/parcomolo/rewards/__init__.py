"""Rewards: something for every third order that arrived."""
