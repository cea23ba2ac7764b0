"""Presentation of results: pictures, the HTML page, and the figures of the published experiment."""
