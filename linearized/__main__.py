"""The commands of this package; each lists its flags with --help.

python train.py                  trains a model, for one ridge or a grid (the same: python -m linearized.train)
python kernel_fit.py             kernel ridge regression (the same: python -m linearized.kernel_fit)
python -m linearized.compare     trains several models and puts them side by side
python -m linearized.finetune    fine-tunes a saved Keras model after a swap
"""

if __name__ == "__main__":
    print(__doc__.strip())
