"""Settings of commands: conversion to flags, checks, storage, names of runs, and groups of flags that commands share.

The settings of one command are a class in a module of their own, such as `TrainSettings` in
`linearized.experiments.train_settings`.
"""
