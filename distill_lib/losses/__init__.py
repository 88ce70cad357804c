"""Losses, one file for each kind of knowledge: response, feature, relation."""
