"""Truss's and Baseten's dialect: one route, `predict`, under the paths of their gateway, their server and SageMaker."""
