"""What is trained and solved; the only package that imports Keras and TensorFlow."""
