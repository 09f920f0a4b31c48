"""Training and prediction jobs, on this machine or on a SLURM cluster, through submitit."""
