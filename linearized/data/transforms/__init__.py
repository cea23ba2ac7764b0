"""What is done to a data set before it is learned: published noise, whitening, and their cache."""
