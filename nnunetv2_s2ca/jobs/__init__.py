"""Trainings and predictions as jobs, on this machine or on a SLURM cluster, by submitit."""
