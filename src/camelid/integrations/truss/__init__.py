"""Truss, Baseten's packaging of models: folders that its tool deploys, and its folders served by us."""
