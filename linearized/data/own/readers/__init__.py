"""Readers of the user's own data, one module per format; `linearized.settings.own_settings.FORMATS` lists them."""
