"""How others run the same trials: one script a trial, a plain Optuna loop, plain Ray Tune.

All three share one training function, written as public training scripts are (from their description, not
their code): PIL images through torchvision transforms in a DataLoader, float32 NCHW, a step schedule by
epoch, the loss read in every step, a test pass every epoch and another for every score.
"""
