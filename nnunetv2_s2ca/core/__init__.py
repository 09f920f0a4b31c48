"""What every room needs: errors, atomic files, worker processes, NIfTI, nnU-Net's folders."""
