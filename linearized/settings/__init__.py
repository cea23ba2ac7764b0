"""Settings of commands: conversion to flags, checks, storage, names of runs, and groups of flags that commands share.

The flags of one command are a class in the command's own module, such as `TrainSettings` in
`linearized.experiments.train`.
"""
