"""How well S2CA-Net and nnU-Net learn on hard synthetic patients, row by row."""
