"""The commands of this package; each lists its flags with --help.

python train.py                  trains a model, for one ridge or a grid (the same: linearized train)
python kernel_fit.py             kernel ridge regression (the same: linearized krr)
linearized compare     trains several models and puts them side by side
linearized finetune    fine-tunes a saved Keras model after a swap
"""

if __name__ == "__main__":
    print(__doc__.strip())
