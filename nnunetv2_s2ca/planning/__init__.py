"""Planners: what S2CA-Net needs other than nnU-Net's U-Nets, in a few overridden methods."""

from nnunetv2_s2ca.planning.planner import S2CAPlanner

__all__ = ["S2CAPlanner"]
