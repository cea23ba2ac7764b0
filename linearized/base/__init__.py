"""What every part of the suite needs: errors, reading of files, registries, tables, progress, fixed random weights."""
