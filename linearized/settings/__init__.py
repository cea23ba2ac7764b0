"""Settings: frozen dataclasses that become flags, check themselves, are saved with results and name a run."""
