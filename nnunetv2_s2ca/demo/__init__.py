"""`s2ca demo`: from made-up patients to an ensemble's predictions, by the users' own commands."""

from nnunetv2_s2ca.demo.chain import DemoResult, DemoSettings, check_dice, run_demo, scores_table

__all__ = ["DemoResult", "DemoSettings", "check_dice", "run_demo", "scores_table"]
